//! Chance that can be had again: the same seed gives the same throws.

/// SplitMix64 (Steele, Lea and Flood 2014): any sequence would do, as long as it is the same for the same seed.
#[derive(Debug, Clone)]
pub(crate) struct Dice {
    state: u64,
}

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Any number.
    pub(crate) fn throw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.state;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }

    /// A number of `from..to`; `from` where there is none.
    pub(crate) fn between(&mut self, from: u64, to: u64) -> u64 {
        match to.saturating_sub(from) {
            0 => from,
            width => from + self.throw() % width,
        }
    }

    /// True so many times of a thousand.
    pub(crate) fn chance(&mut self, per_thousand: u64) -> bool {
        self.between(0, 1000) < per_thousand
    }

    /// One of them.
    ///
    /// # Panics
    /// When there are none.
    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let index = self.between(0, of.len() as u64);
        &of[usize::try_from(index).expect("an index")]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_sequence_and_every_side_comes_up() {
        let throws = |seed| {
            let mut dice = Dice::new(seed);
            (0..1000)
                .map(|_| *dice.pick(&[1, 2, 3, 4, 5, 6]))
                .collect::<Vec<_>>()
        };
        assert_eq!(throws(7), throws(7));
        assert_ne!(throws(7), throws(8));
        for side in 1..=6 {
            let times = throws(7).iter().filter(|s| **s == side).count();
            assert!((100..250).contains(&times), "{side}: {times} times");
        }
    }
}
