//! One line of styled text without control characters.

use std::borrow::Cow;

use anstyle::{AnsiColor, Style as Ansi};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// What a piece of text means; how it looks is decided here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Nothing in particular.
    Plain,
    /// Beside the point.
    Dim,
    /// A heading.
    Bold,
    /// Allowed, proven, added.
    Good,
    /// Denied, altered, missing, removed.
    Bad,
    /// Held, or odd.
    Warn,
    /// A name to copy.
    Name,
    /// What a pattern matched.
    Match,
}

impl Style {
    pub(super) fn ansi(self) -> Option<Ansi> {
        let color = |c: AnsiColor| Some(Ansi::new().fg_color(Some(c.into())));
        match self {
            Self::Plain => None,
            Self::Dim => Some(Ansi::new().dimmed()),
            Self::Bold => Some(Ansi::new().bold()),
            Self::Good => color(AnsiColor::Green),
            Self::Bad => color(AnsiColor::Red),
            Self::Warn => color(AnsiColor::Yellow),
            Self::Name => color(AnsiColor::Cyan),
            Self::Match => Some(Ansi::new().bold().fg_color(Some(AnsiColor::Red.into()))),
        }
    }
}

/// One line of text in pieces. Whatever is put in, control characters come out as escapes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text {
    parts: Vec<(Style, String)>,
}

impl Text {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Plain text.
    pub fn plain(text: impl AsRef<str>) -> Self {
        Self::new().with(Style::Plain, text)
    }

    /// Text of one style.
    pub fn styled(style: Style, text: impl AsRef<str>) -> Self {
        Self::new().with(style, text)
    }

    /// With a piece more.
    #[must_use]
    pub fn with(mut self, style: Style, text: impl AsRef<str>) -> Self {
        self.push(style, text);
        self
    }

    /// Adds a piece.
    pub fn push(&mut self, style: Style, text: impl AsRef<str>) {
        let text = escaped(text.as_ref()).into_owned();
        match self.parts.last_mut() {
            Some((last, part)) if *last == style => part.push_str(&text),
            _ => self.parts.push((style, text)),
        }
    }

    /// Adds the pieces of `other`.
    pub fn append(&mut self, other: &Text) {
        self.parts.extend(other.parts.iter().cloned());
    }

    /// Adds blanks until it is `width` columns wide.
    pub fn pad_to(&mut self, width: usize) {
        let missing = width.saturating_sub(self.width());
        self.push(Style::Plain, " ".repeat(missing));
    }

    /// Columns it takes.
    pub fn width(&self) -> usize {
        self.parts.iter().map(|(_, part)| part.width()).sum()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.parts.iter().all(|(_, part)| part.is_empty())
    }

    /// At most `width` columns of it, with `…` where something was cut.
    pub fn clip(&self, width: usize) -> Text {
        if self.width() <= width {
            return self.clone();
        }
        let mut left = width.saturating_sub(1);
        let mut clipped = Text::new();
        for (style, part) in &self.parts {
            let fits: usize = part
                .char_indices()
                .take_while(|(_, c)| {
                    let w = c.width().unwrap_or(0);
                    let fits = w <= left;
                    if fits {
                        left -= w;
                    } else {
                        left = 0;
                    }
                    fits
                })
                .map(|(_, c)| c.len_utf8())
                .sum();
            clipped.parts.push((*style, part[..fits].to_owned()));
            if fits < part.len() {
                break;
            }
        }
        if width > 0 {
            clipped.push(Style::Dim, "…");
        }
        clipped
    }

    /// Lines of at most `width` columns, broken at blanks; later ones are indented like the first.
    pub fn wrap(&self, width: usize) -> Vec<Text> {
        let indent: usize = self
            .parts
            .first()
            .map_or(0, |(_, p)| p.len() - p.trim_start_matches(' ').len());
        let mut lines = Vec::new();
        let mut line = Text::new();
        let mut empty = true;
        for (style, part) in &self.parts {
            for word in part.split_inclusive(' ') {
                if !empty && line.width() + word.trim_end().width() > width {
                    line.trim_end();
                    lines.push(std::mem::take(&mut line));
                    line.push(Style::Plain, " ".repeat(indent));
                }
                empty = empty && word.trim().is_empty();
                line.push(*style, word);
            }
        }
        lines.push(line);
        lines
    }

    /// Takes blanks off the end.
    fn trim_end(&mut self) {
        if let Some((_, part)) = self.parts.last_mut() {
            part.truncate(part.trim_end_matches(' ').len());
        }
    }

    pub(super) fn parts(&self) -> &[(Style, String)] {
        &self.parts
    }
}

/// `text` with control characters, line breaks and characters that change the direction of text written as escapes.
pub fn escaped(text: &str) -> Cow<'_, str> {
    let harmless = |c: char| {
        !c.is_control()
            && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    if text.chars().all(harmless) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            c if harmless(c) => out.push(c),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if u32::from(c) < 0x100 => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_never_come_out_raw() {
        let text = Text::plain("a\u{1b}[31mb\u{7}\nc\u{202e}d\u{9b}e");
        let raw: String = text.parts().iter().map(|(_, p)| p.as_str()).collect();
        assert_eq!(raw, "a\\x1b[31mb\\x07\\nc\\u{202e}d\\x9be");
    }

    #[test]
    fn clipping_counts_columns_not_bytes() {
        let text = Text::plain("日本語テキスト");
        let clipped = text.clip(6);
        assert!(clipped.width() <= 6, "{clipped:?}");
        assert_eq!(text.clip(14), text);
    }

    #[test]
    fn wrapped_lines_keep_every_word_and_the_indent() {
        let lines = Text::plain("  one two three four").wrap(10);
        let joined: Vec<String> = lines
            .iter()
            .map(|l| l.parts().iter().map(|(_, p)| p.as_str()).collect())
            .collect();
        assert_eq!(joined, ["  one two", "  three", "  four"]);
    }
}
