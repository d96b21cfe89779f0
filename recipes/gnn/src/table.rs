//! Tables of text cells: CSV, optionally gzipped, and Parquet. What the columns mean is not known here.

use std::io::Read;
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
    /// Reads `.csv`, `.csv.gz` or `.parquet`.
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
            return Self::csv(path, MultiGzDecoder::new(file), header);
        }
        if name.ends_with(".csv") {
            return Self::csv(path, file, header);
        }
        Err(GraphError::malformed(path, "a table is a .csv, .csv.gz or .parquet file"))
    }

    fn csv(path: &Path, input: impl Read, header: HeaderLine) -> Result<Self, GraphError> {
        let wrong = |error: csv::Error| {
            let line = error.position().map_or_else(String::new, |at| format!(":{}", at.line()));
            GraphError::at(path, line, format!("not CSV: {error}"))
        };
        let mut reader =
            csv::ReaderBuilder::new().has_headers(header == HeaderLine::Names).trim(csv::Trim::All).from_reader(input);
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

    /// An error about a cell.
    pub fn wrong(&self, row: &TableRow, column: usize, message: &str) -> GraphError {
        let name = self.columns.get(column).cloned().unwrap_or_else(|| format!("column {}", column + 1));
        GraphError::at(&self.path, format!(":{}:{name}", row.line), message)
    }
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
