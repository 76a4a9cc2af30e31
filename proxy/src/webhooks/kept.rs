//! Answers that are good for the same question for a while, by the question's SHA-256.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::policy::Answer;

/// The most answers of one webhook: with the longest reasons, some eight MiB.
const ANSWERS_MAX: usize = 4096;

/// The SHA-256 of a question.
type Question = [u8; 32];

/// Answers of one webhook. Failures are none.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<HashMap<Question, (Instant, Answer)>>);

impl Kept {
    pub(super) fn get(&self, question: &Question) -> Option<Answer> {
        let mut answers = self.0.lock();
        let (ends, answer) = answers.get(question)?;
        if *ends > Instant::now() {
            return Some(answer.clone());
        }
        answers.remove(question);
        None
    }

    pub(super) fn put(&self, question: Question, answer: &Answer, ttl: Duration) {
        if ttl.is_zero() {
            return;
        }
        let now = Instant::now();
        let mut answers = self.0.lock();
        if answers.len() >= ANSWERS_MAX {
            answers.retain(|_, (ends, _)| *ends > now);
        }
        // Still full of good ones: to ask again costs a round trip, and which one it is for does not matter.
        if answers.len() >= ANSWERS_MAX
            && let Some(any) = answers.keys().next().copied()
        {
            answers.remove(&any);
        }
        answers.insert(question, (now + ttl, answer.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_good_for_its_time() {
        let kept = Kept::default();
        let (yes, second) = (Answer::Allowed(String::new()), Duration::from_secs(1));
        kept.put([1; 32], &yes, second);
        kept.put([2; 32], &yes, Duration::ZERO);
        assert_eq!(kept.get(&[1; 32]), Some(yes));
        assert_eq!(kept.get(&[2; 32]), None);
        tokio::time::advance(second).await;
        assert_eq!(kept.get(&[1; 32]), None);
        assert_eq!(kept.0.lock().len(), 0, "it is not kept any longer");
    }

    #[tokio::test(start_paused = true)]
    async fn they_do_not_become_more_than_there_is_room_for() {
        let kept = Kept::default();
        let yes = Answer::Allowed(String::new());
        for n in 0..(ANSWERS_MAX as u32 + 100) {
            let mut question = [0; 32];
            question[..4].copy_from_slice(&n.to_le_bytes());
            kept.put(question, &yes, Duration::from_secs(60));
            assert_eq!(
                kept.get(&question),
                Some(yes.clone()),
                "the newest is there"
            );
        }
        assert_eq!(kept.0.lock().len(), ANSWERS_MAX);
    }
}
