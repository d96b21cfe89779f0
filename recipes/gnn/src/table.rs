//! Tables of text cells: CSV, optionally gzipped, and Parquet. What the columns mean is not known here.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use ftk_adapters::foreign;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;

use super::error::GraphError;

/// A table of one file.
#[derive(Debug)]
pub struct Table {
    path: PathBuf,
    /// Names of the columns; empty where the file has no header.
    pub columns: Vec<String>,
    rows: Vec<TableRow>,
}

/// A row of a table.
#[derive(Debug)]
pub struct TableRow {
    /// Line, or number of the row where a file has no lines, from 1.
    line: usize,
    cells: Vec<String>,
}

impl TableRow {
    /// Cells in it.
    pub fn width(&self) -> usize {
        self.cells.len()
    }
}

/// Whether the first line of a file of text names the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderLine {
    /// It does.
    Names,
    /// It is a row.
    Absent,
}

impl Table {
    /// Reads `.csv`, `.tsv`, `.txt`, each perhaps with `.gz` behind it, or `.parquet`. Cells of text lie between commas,
    /// or between tabs or semicolons where the first line that is no remark has no comma; lines that begin with `#` are
    /// remarks where the first one does.
    ///
    /// # Errors
    /// A file that cannot be read, is malformed, or is called something else.
    pub fn read(path: &Path, header: HeaderLine) -> Result<Self, GraphError> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_ascii_lowercase();
        if name.ends_with(".parquet") {
            return Self::parquet(path);
        }
        let file = foreign::open(path).map_err(|error| GraphError::io(path, error))?;
        if name.ends_with(".gz") {
            return Self::csv(path, foreign::Unpacked(MultiGzDecoder::new(file)), header);
        }
        if [".csv", ".tsv", ".txt"].iter().any(|ending| name.ends_with(ending)) {
            return Self::csv(path, file, header);
        }
        let error = GraphError::malformed(path, "a table is a .csv, .tsv, .txt or .parquet file");
        Err(error
            .hinted("of a graph in another form, write the edges as a table: src,dst, and weight and time if known"))
    }

    fn csv(path: &Path, input: impl Read, header: HeaderLine) -> Result<Self, GraphError> {
        let wrong = |error: csv::Error| {
            let line = error.position().map_or_else(String::new, |at| format!(":{}", at.line()));
            let message = format!("not CSV: {error}");
            match error.into_kind() {
                csv::ErrorKind::Io(error) => GraphError::io(path, error),
                _ => GraphError::at(path, line, message),
            }
        };
        let mut input = BufReader::new(input);
        let head = input.fill_buf().map_err(|error| GraphError::io(path, error))?;
        let (remarks, between) = marks(&String::from_utf8_lossy(head));
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(header == HeaderLine::Names)
            .delimiter(between)
            .comment(remarks.then_some(b'#'))
            .trim(csv::Trim::All)
            .from_reader(input);
        let columns = match header {
            HeaderLine::Names => reader
                .headers()
                .map_err(wrong)?
                .iter()
                .map(|name| name.trim_start_matches('\u{FEFF}').to_owned())
                .collect(),
            HeaderLine::Absent => Vec::new(),
        };
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(wrong)?;
            let line = record.position().map_or(0, |at| at.line() as usize);
            rows.push(TableRow { line, cells: record.iter().map(str::to_owned).collect() });
        }
        Ok(Self { path: path.to_owned(), columns, rows })
    }

    fn parquet(path: &Path) -> Result<Self, GraphError> {
        let wrong = |error: parquet::errors::ParquetError| GraphError::malformed(path, format!("not Parquet: {error}"));
        let file = foreign::open(path).map_err(|error| GraphError::io(path, error))?;
        // The reader panics on some damaged files.
        let read = std::panic::catch_unwind(move || {
            let reader = SerializedFileReader::new(file)?;
            let schema = reader.metadata().file_metadata().schema_descr();
            let columns = (0..schema.num_columns()).map(|at| schema.column(at).name().to_owned()).collect::<Vec<_>>();
            let rows = reader
                .into_iter()
                .map(|row| Ok(row?.into_columns().into_iter().map(|(_, field)| text(&field)).collect()));
            let rows = rows.collect::<Result<Vec<Vec<Option<String>>>, parquet::errors::ParquetError>>()?;
            Ok((columns, rows))
        });
        let damaged = || GraphError::malformed(path, "not Parquet, or a damaged file");
        let (columns, cells) = read.map_err(|_| damaged())?.map_err(wrong)?;
        let mut rows = Vec::new();
        for (at, row) in cells.into_iter().enumerate() {
            let cells = row.into_iter().collect::<Option<Vec<String>>>().filter(|cells| cells.len() == columns.len());
            let cells = cells
                .ok_or_else(|| GraphError::at(path, format!(":row {}", at + 1), "holds more than numbers and text"))?;
            rows.push(TableRow { line: at + 1, cells });
        }
        Ok(Self { path: path.to_owned(), columns, rows })
    }

    /// A table that was no file of its own: every row has a cell for every column.
    pub fn of_cells(path: &Path, columns: Vec<String>, rows: Vec<Vec<String>>) -> Self {
        let row = |(at, cells)| TableRow { line: at + 1, cells };
        Self { path: path.to_owned(), columns, rows: rows.into_iter().enumerate().map(row).collect() }
    }

    /// The file it is of.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the first line, which named the columns, for a row, and names them.
    pub fn name_columns(&mut self, names: &[&str]) {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let cells = std::mem::replace(&mut self.columns, names);
        self.rows.insert(0, TableRow { line: 1, cells });
    }

    /// Which column has one of these names, whatever their case.
    pub fn column(&self, names: &[&str]) -> Option<usize> {
        names.iter().find_map(|name| self.columns.iter().position(|column| column.eq_ignore_ascii_case(name)))
    }

    /// [`Table::column`] where no second column has one of these names, too.
    ///
    /// # Errors
    /// Two such columns: which of them is meant cannot be told.
    pub fn only(&self, names: &[&str]) -> Result<Option<usize>, GraphError> {
        let is_one = |column: &&String| names.iter().any(|name| column.eq_ignore_ascii_case(name));
        let found: Vec<&String> = self.columns.iter().filter(is_one).collect();
        match found.as_slice() {
            [first, second, ..] => {
                let message = format!("two columns that mean the same: {first} and {second}");
                Err(GraphError::at(&self.path, ":1", message).hinted("leave one of them out, or rename it"))
            }
            _ => Ok(self.column(names)),
        }
    }

    /// The rows.
    pub fn rows(&self) -> &[TableRow] {
        &self.rows
    }

    /// A cell as text.
    pub fn text<'a>(&self, row: &'a TableRow, column: usize) -> Result<&'a str, GraphError> {
        row.cells.get(column).map(String::as_str).ok_or_else(|| self.wrong(row, column, "is missing"))
    }

    /// A cell as a finite number.
    pub fn number(&self, row: &TableRow, column: usize) -> Result<f64, GraphError> {
        let text = self.text(row, column)?;
        let value: f64 = text.parse().map_err(|_| self.wrong(row, column, &format!("is not a number: {text}")))?;
        if value.is_finite() { Ok(value) } else { Err(self.wrong(row, column, &format!("is not finite: {text}"))) }
    }

    /// A cell as a time: a number in whatever unit the file has, or a date in seconds since 1970. All of a file are of
    /// one kind, which `dated` remembers.
    pub fn time(&self, row: &TableRow, column: usize, dated: &mut Option<bool>) -> Result<f64, GraphError> {
        let text = self.text(row, column)?;
        let date = date(text);
        let number = date.map_or_else(|| self.number(row, column), Ok)?;
        let told = |dated: bool| if dated { "date" } else { "number" };
        match dated.replace(date.is_some()) {
            Some(before) if before != date.is_some() => {
                let (this, others) = (told(!before), told(before));
                Err(self.wrong(row, column, &format!("is a {this}, the rows before it are {others}s: {text}")))
            }
            _ => Ok(number),
        }
    }

    /// An error about a cell.
    pub fn wrong(&self, row: &TableRow, column: usize, message: &str) -> GraphError {
        let name = self.columns.get(column).cloned().unwrap_or_else(|| format!("column {}", column + 1));
        GraphError::at(&self.path, format!(":{}:{name}", row.line), message)
    }
}

/// Whether a file begins with remarks, and what lies between its cells, by its beginning.
fn marks(head: &str) -> (bool, u8) {
    let head = head.trim_start_matches('\u{FEFF}');
    let first = head.lines().find(|line| !line.starts_with('#')).unwrap_or_default();
    let between = [b',', b'\t', b';'].into_iter().find(|&mark| first.contains(char::from(mark)));
    (head.starts_with('#'), between.unwrap_or(b','))
}

/// Seconds since 1970 of `YYYY-MM-DD`, perhaps with `HH:MM:SS` behind a blank or `T`, in UTC, which may be said.
fn date(text: &str) -> Option<f64> {
    let bare = ["Z", "+00:00", " UTC"].into_iter().find_map(|end| text.strip_suffix(end)).unwrap_or(text);
    let (day, clock) = bare.split_once(['T', ' ']).unwrap_or((bare, "00:00:00"));
    let whole = |text: &str, most: u32| -> Option<u32> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|&number| digits && number <= most)
    };
    let [year, month, day] = day.split('-').collect::<Vec<_>>()[..] else { return None };
    let (year, month, day) = (whole(year, 9999)?, whole(month, 12)?, whole(day, 31)?);
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let lengths = [31, 28 + u32::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    if year < 1970 || month == 0 || day == 0 || day > lengths[month as usize - 1] {
        return None;
    }
    let before = year - 1;
    // Leap days up to the end of a year, of which 477 lie before 1970.
    let leaps = before / 4 - before / 100 + before / 400 - 477;
    let days = (year - 1970) * 365 + leaps + lengths[..month as usize - 1].iter().sum::<u32>() + day - 1;
    let mut hands = clock.split(':');
    let (hour, minute) = (whole(hands.next()?, 23)?, whole(hands.next()?, 59)?);
    let second: f64 = hands.next().unwrap_or("0").parse().ok().filter(|second| (0.0..61.0).contains(second))?;
    if hands.next().is_some() {
        return None;
    }
    Some(f64::from(days) * 86_400.0 + f64::from(hour * 3600 + minute * 60) + second)
}

/// A plain value as text; nothing for a list or a group, an empty text for null.
fn text(field: &Field) -> Option<String> {
    match field {
        Field::Null => Some(String::new()),
        Field::Str(text) => Some(text.clone()),
        Field::Group(_) | Field::ListInternal(_) | Field::MapInternal(_) | Field::Bytes(_) => None,
        Field::Float(value) => Some(value.to_string()),
        Field::Double(value) => Some(value.to_string()),
        Field::TimestampMillis(value) | Field::TimestampMicros(value) => Some(value.to_string()),
        other => Some(other.to_string()),
    }
}
