//! What the fuzz targets check of parts that are not public: each function takes any bytes, panics where a promise is
//! broken, and says whether the input went all the way, so that the tests see that their seeds do.

use crate::authenticate::check_token;
use crate::mask::check_scanner;
use crate::tunnel::check_rewriter;

mod headers;

/// A bearer token: `true` when it was accepted.
pub fn jwt(input: &[u8]) -> bool {
    check_token(input)
}

/// The head of a request: `true` when it would be forwarded.
pub fn headers(input: &[u8]) -> bool {
    headers::check(input)
}

/// Patterns over a text in pieces: `true` when there was something to search for.
pub fn patterns(input: &[u8]) -> bool {
    check_scanner(input)
}

/// Both sides of a command's stream, rewritten: `true` when it ended in order.
pub fn rewriter(input: &[u8]) -> bool {
    check_rewriter(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All seeds of a target hold, and those whose name begins with `whole-` go all the way, no others.
    fn run(target: &str, check: fn(&[u8]) -> bool) {
        let folder = format!("{}/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
        let mut seeds: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap())
            .collect();
        seeds.sort_by_key(std::fs::DirEntry::file_name);
        assert!(seeds.len() >= 8, "{}", seeds.len());
        let wrong: Vec<_> = seeds
            .iter()
            .map(|seed| (seed.file_name().into_string().unwrap(), seed.path()))
            .filter(|(name, path)| {
                check(&std::fs::read(path).unwrap()) != name.starts_with("whole-")
            })
            .map(|(name, _)| name)
            .collect();
        assert!(wrong.is_empty(), "{target}: {wrong:?}");
    }

    #[test]
    fn only_tokens_that_an_issuer_signed_are_accepted() {
        run("jwt", jwt);
    }

    #[test]
    fn what_is_forwarded_holds_nothing_that_the_client_may_not_say() {
        run("headers", headers);
    }

    #[test]
    fn texts_are_masked_alike_however_they_are_cut() {
        run("patterns", patterns);
    }

    #[test]
    fn rewritten_streams_decode_to_the_masked_output() {
        run("rewriter", rewriter);
    }
}
