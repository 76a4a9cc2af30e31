//! Tables that fit the width.
//!
//! Every column gets what its longest cell needs. Where that is too much, columns give way to their smallest width,
//! rightmost first, and then optional columns are left out; nothing ever wraps.

use super::text::{Style, Text};

/// Blanks between two columns.
const GUTTER: usize = 2;

/// One column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its heading.
    title: &'static str,
    /// Whether cells stand at the right.
    right: bool,
    /// It never gets narrower than this, or than its longest cell.
    width_min: usize,
    /// Whether it may be left out.
    optional: bool,
}

impl Column {
    /// A column of cells at the left that is never narrower than `width_min`, unless its cells are.
    pub fn new(title: &'static str, width_min: usize) -> Self {
        Self {
            title,
            right: false,
            width_min,
            optional: false,
        }
    }

    /// With cells at the right.
    pub fn right(self) -> Self {
        Self {
            right: true,
            ..self
        }
    }

    /// Which may be left out where there is no room.
    pub fn optional(self) -> Self {
        Self {
            optional: true,
            ..self
        }
    }
}

/// A table.
#[derive(Debug, Clone)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Text>>,
}

impl Table {
    /// An empty table.
    pub fn new(columns: Vec<Column>) -> Self {
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds a row: one cell per column.
    pub fn row(&mut self, cells: Vec<Text>) {
        self.rows.push(cells);
    }

    /// Lines of at most `width` columns where that is possible.
    pub fn lines(&self, width: usize) -> Vec<Text> {
        let mut shown: Vec<usize> = (0..self.columns.len()).collect();
        let widths = loop {
            match self.fit(&shown, width) {
                Some(widths) => break widths,
                None => match shown.iter().rposition(|i| self.columns[*i].optional) {
                    Some(at) => drop(shown.remove(at)),
                    None => break shown.iter().map(|i| self.smallest(*i)).collect(),
                },
            }
        };
        let heading: Vec<Text> = self
            .columns
            .iter()
            .map(|c| Text::styled(Style::Bold, c.title))
            .collect();
        let rows = std::iter::once(&heading).chain(&self.rows);
        rows.map(|cells| self.line(cells, &shown, &widths))
            .collect()
    }

    fn line(&self, cells: &[Text], shown: &[usize], widths: &[usize]) -> Text {
        let mut line = Text::new();
        let mut begin = 0;
        for (i, width) in shown.iter().zip(widths) {
            line.pad_to(begin);
            let cell = cells[*i].clip(*width);
            if self.columns[*i].right {
                line.pad_to(begin + width.saturating_sub(cell.width()));
            }
            line.append(&cell);
            begin += width + GUTTER;
        }
        line
    }

    fn natural(&self, column: usize) -> usize {
        let cells = self.rows.iter().map(|row| row[column].width());
        cells
            .max()
            .unwrap_or(0)
            .max(self.columns[column].title.len())
    }

    fn smallest(&self, column: usize) -> usize {
        self.natural(column).min(self.columns[column].width_min)
    }

    fn fit(&self, shown: &[usize], width: usize) -> Option<Vec<usize>> {
        let mut widths: Vec<usize> = shown.iter().map(|i| self.natural(*i)).collect();
        let gutters = GUTTER * shown.len().saturating_sub(1);
        let mut over = (widths.iter().sum::<usize>() + gutters).saturating_sub(width);
        for (i, natural) in shown.iter().zip(&mut widths).rev() {
            let gives = over.min(*natural - self.smallest(*i));
            *natural -= gives;
            over -= gives;
        }
        (over == 0).then_some(widths)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(vec![
            Column::new("ID", 4),
            Column::new("N", 3).right(),
            Column::new("EXTRA", 5).optional(),
            Column::new("WHAT", 6),
        ]);
        let long = "something very long";
        table.row(["abcd", "7", "extra", long].map(Text::plain).to_vec());
        table
    }

    fn drawn(width: usize) -> Vec<String> {
        let lines = table().lines(width);
        let text = |l: &Text| {
            l.parts()
                .iter()
                .map(|(_, p)| p.as_str())
                .collect::<String>()
        };
        lines.iter().map(text).collect()
    }

    #[test]
    fn a_wide_table_shows_everything() {
        assert_eq!(
            drawn(80),
            [
                "ID    N  EXTRA  WHAT",
                "abcd  7  extra  something very long"
            ]
        );
    }

    #[test]
    fn a_narrow_table_clips_and_leaves_out() {
        assert_eq!(
            drawn(24),
            ["ID    N  EXTRA  WHAT", "abcd  7  extra  somethi…"]
        );
        assert_eq!(drawn(20), ["ID    N  WHAT", "abcd  7  something …"]);
    }
}
