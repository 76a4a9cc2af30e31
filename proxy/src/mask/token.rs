//! Numbers and the three words of JSON, byte by byte.

/// Where in a number or word the text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scalar {
    /// What is still to come of `true`, `false` or `null`.
    Word(&'static [u8]),
    Minus,
    Zero,
    Integer,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
}

impl Scalar {
    /// The state after the first byte; nothing when no number or word begins with it.
    #[inline]
    pub(super) fn begin(byte: u8) -> Option<Self> {
        Some(match byte {
            b't' => Self::Word(b"rue"),
            b'f' => Self::Word(b"alse"),
            b'n' => Self::Word(b"ull"),
            b'-' => Self::Minus,
            b'0' => Self::Zero,
            b'1'..=b'9' => Self::Integer,
            _ => return None,
        })
    }

    /// The state after one more byte; nothing when it does not belong to the scalar.
    #[inline]
    pub(super) fn step(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Word([first, rest @ ..]), _) if *first == byte => Self::Word(rest),
            (Self::Minus, b'0') => Self::Zero,
            (Self::Minus, b'1'..=b'9') | (Self::Integer, b'0'..=b'9') => Self::Integer,
            (Self::Zero | Self::Integer, b'.') => Self::Point,
            (Self::Point | Self::Fraction, b'0'..=b'9') => Self::Fraction,
            (Self::Zero | Self::Integer | Self::Fraction, b'e' | b'E') => Self::Exponent,
            (Self::Exponent, b'+' | b'-') => Self::ExponentSign,
            (Self::Exponent | Self::ExponentSign | Self::ExponentDigits, b'0'..=b'9') => {
                Self::ExponentDigits
            }
            _ => return None,
        })
    }

    /// Whether the scalar may end here.
    #[inline]
    pub(super) fn is_complete(self) -> bool {
        matches!(
            self,
            Self::Word([]) | Self::Zero | Self::Integer | Self::Fraction | Self::ExponentDigits
        )
    }
}
