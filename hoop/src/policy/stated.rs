//! What webhooks are said to answer, where none is asked.

use hoop_proxy::policy::{Answer, Facts, Policy};

/// `NAME=ANSWER`, as on the command line.
pub(super) fn argument(text: &str) -> Result<(String, Answer), String> {
    let (name, word) = text.split_once('=').ok_or("write NAME=ANSWER")?;
    answer(name, word)
}

/// The answer of a webhook in one of the words for it.
pub(super) fn answer(name: &str, word: &str) -> Result<(String, Answer), String> {
    let answer = Answer::stated(word).ok_or_else(|| {
        let words = Answer::WORDS.join(", ");
        format!("webhooks answer {words}, and not \"{word}\"")
    })?;
    Ok((name.to_owned(), answer))
}

/// Puts answers among the facts; the error is what to tell.
pub(super) fn add(
    policy: &Policy,
    answers: &[(String, Answer)],
    facts: &mut Facts<'_>,
) -> Result<(), String> {
    for (name, answer) in answers {
        let webhook = policy.webhook(name);
        let webhook = webhook.ok_or_else(|| format!("the policy has no webhook \"{name}\""))?;
        facts.answer(webhook.clone(), answer.clone());
    }
    Ok(())
}
