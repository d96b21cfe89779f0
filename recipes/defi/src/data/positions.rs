//! Tables of positions in a pool, as somebody had them or thinks of having them.

use std::path::Path;

use super::cells::{Clock, whole};
use super::detect;
use super::text::text;
use crate::DefiError;
use crate::pool::{MAX_TICK, MIN_TICK};

/// When a position came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PositionMoment {
    /// Microseconds since 1970 (UTC).
    Time(i64),
    /// Block, place of the transaction in it and of the event in that.
    Event([u64; 3]),
}

/// Liquidity between two ticks for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedPosition {
    /// What it is called; the number of its row where the table does not say.
    pub id: String,
    /// Lower and upper tick.
    pub ticks: (i32, i32),
    /// How much.
    pub liquidity: u128,
    /// When it came.
    pub opened: PositionMoment,
    /// When it went; absent where it was there to the end.
    pub closed: Option<PositionMoment>,
    /// Fees that were collected of each token, where that is known.
    pub collected: Option<[u128; 2]>,
}

/// Columns that a table must have.
const NEEDED: [&str; 4] = ["tick_lower", "tick_upper", "liquidity", "opened"];
/// Columns that it may have.
const KNOWN: [&str; 4] = ["id", "closed", "fees0", "fees1"];
/// No pool has as much.
const MAX_LIQUIDITY: u128 = 1 << 100;

/// Reads a table of positions (`.csv`, plain or gzip).
///
/// # Errors
/// A file that cannot be read, columns that are missing or not known, a row that is no position.
pub fn positions(path: &Path) -> Result<Vec<OwnedPosition>, DefiError> {
    let text = text(path)?;
    let text = text.trim_start_matches('\u{feff}');
    let table = |message: String| DefiError::Table { path: path.to_owned(), message };
    let header = detect::header(text).ok_or_else(|| table("has no line of column names".to_owned()))?;
    if let Some(other) = header.iter().find(|name| !NEEDED.contains(&name.as_str()) && !KNOWN.contains(&name.as_str()))
    {
        return Err(table(format!("has a column that is not understood: {other}")));
    }
    let place = |name: &str| header.iter().position(|column| column == name);
    if let Some(missing) = NEEDED.into_iter().find(|name| place(name).is_none()) {
        return Err(table(format!("lacks the column {missing}")));
    }
    if place("fees0").is_some() != place("fees1").is_some() {
        return Err(table("has fees of one token only: fees0 and fees1 belong together".to_owned()));
    }
    let mut clock = Clock::default();
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate().skip(detect::remarks(text) + 1) {
        if line.trim().is_empty() {
            continue;
        }
        let cells = detect::cells(line);
        let wrong = |column: &str, message: String| DefiError::Row {
            path: path.to_owned(),
            line: index + 1,
            column: column.to_owned(),
            message,
        };
        if cells.len() != header.len() {
            return Err(wrong("row", format!("has {} cells, the header {}", cells.len(), header.len())));
        }
        let cell = |name: &str| place(name).map_or("", |place| cells[place]);
        let tick = |name: &str| {
            let tick = whole(cell(name)).and_then(|tick| i32::try_from(tick).ok());
            let tick = tick.filter(|tick| (MIN_TICK..=MAX_TICK).contains(tick));
            tick.ok_or_else(|| wrong(name, format!("is not a tick: {}", cell(name))))
        };
        let amount = |name: &str| {
            let amount = cell(name).parse::<u128>().ok().filter(|amount| *amount < MAX_LIQUIDITY);
            amount.ok_or_else(|| wrong(name, format!("is not an amount in the smallest unit: {}", cell(name))))
        };
        let mut moment = |name: &str| {
            let parts: Option<Vec<u64>> = cell(name).split(':').map(|part| part.parse().ok()).collect();
            match parts.as_deref() {
                Some([block, transaction, event]) => Ok(PositionMoment::Event([*block, *transaction, *event])),
                _ => clock.time(cell(name)).map(PositionMoment::Time).map_err(|message| wrong(name, message)),
            }
        };
        let ticks = (tick("tick_lower")?, tick("tick_upper")?);
        if ticks.0 >= ticks.1 {
            return Err(wrong("tick_upper", format!("is not above tick_lower: {}", ticks.1)));
        }
        let liquidity = amount("liquidity")?;
        if liquidity == 0 {
            return Err(wrong("liquidity", "must be above 0".to_owned()));
        }
        let opened = moment("opened")?;
        let closed = if cell("closed").is_empty() { None } else { Some(moment("closed")?) };
        let collected = match (cell("fees0"), cell("fees1")) {
            ("", "") => None,
            _ => Some([amount("fees0")?, amount("fees1")?]),
        };
        let id = match cell("id") {
            "" => (found.len() + 1).to_string(),
            id => id.to_owned(),
        };
        found.push(OwnedPosition { id, ticks, liquidity, opened, closed, collected });
    }
    if found.is_empty() {
        return Err(table("has no positions".to_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<OwnedPosition>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.csv");
        std::fs::write(&path, text).unwrap();
        positions(&path).map_err(|error| error.to_string().replace(folder.path().to_str().unwrap(), "."))
    }

    #[test]
    fn positions_are_read_by_column_and_refused_by_cell() {
        let head = "tick_lower,tick_upper,liquidity,opened,closed,fees0,fees1\n";
        let row = "-10,20,5,7:8:9,2024-01-05 00:44:59,1,0\n";
        let found = read(&format!("{head}{row}199060.0,199070,6,1704411899,,,\n"));
        let opened = PositionMoment::Event([7, 8, 9]);
        let closed = Some(PositionMoment::Time(1_704_415_499_000_000));
        let first = OwnedPosition {
            id: "1".to_owned(),
            ticks: (-10, 20),
            liquidity: 5,
            opened,
            closed,
            collected: Some([1, 0]),
        };
        // Two units of time in one file are as wrong here as in a market.
        assert_eq!(found.unwrap_err(), "./p.csv:3:opened: is in seconds, the rows before it are in date: 1704411899");
        assert_eq!(read(&format!("{head}{row}")).unwrap(), [first]);
        let whole = read("id,tick_lower,tick_upper,liquidity,opened\nmine,0,10,1,1704411899\n").unwrap();
        assert_eq!((whole[0].id.as_str(), whole[0].closed, whole[0].collected), ("mine", None, None));
        let refused = |from: &str, to: &str| read(&format!("{head}{row}").replace(from, to)).unwrap_err();
        assert_eq!(refused("opened", "open"), "./p.csv: has a column that is not understood: open");
        assert_eq!(refused(",fees1", ""), "./p.csv: has fees of one token only: fees0 and fees1 belong together");
        assert_eq!(refused("-10", "30"), "./p.csv:2:tick_upper: is not above tick_lower: 20");
        assert_eq!(refused("-10", "1.5"), "./p.csv:2:tick_lower: is not a tick: 1.5");
        assert_eq!(refused(",5,", ",0,"), "./p.csv:2:liquidity: must be above 0");
        assert_eq!(refused(",5,", ",1e3,"), "./p.csv:2:liquidity: is not an amount in the smallest unit: 1e3");
        assert_eq!(refused("7:8:9", "7:8"), "./p.csv:2:opened: is not a time: 7:8");
        assert_eq!(refused(",1,0", ",1"), "./p.csv:2:row: has 6 cells, the header 7");
        assert_eq!(read(head).unwrap_err(), "./p.csv: has no positions");
    }
}
