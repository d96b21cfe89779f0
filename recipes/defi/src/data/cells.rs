//! Numbers and times as market files spell them, read exactly.

/// A decimal number as an integer of units of `10^-decimals`; `None` if it is not one, is negative, has more decimals
/// than that, or leaves 128 bits. An exponent is understood.
pub fn decimal(text: &str, decimals: u32) -> Option<u128> {
    let (digits, exponent) = match text.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.len() + part.len() == 0 || !whole.bytes().chain(part.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part = part.trim_end_matches('0');
    let shift = exponent.checked_add(i32::try_from(decimals).ok()?)?.checked_sub(i32::try_from(part.len()).ok()?)?;
    let mut value: u128 = 0;
    for byte in whole.bytes().chain(part.bytes()) {
        value = value.checked_mul(10)?.checked_add(u128::from(byte - b'0'))?;
    }
    match u32::try_from(shift) {
        Ok(shift) if value > 0 => value.checked_mul(10u128.checked_pow(shift)?),
        Ok(_) => Some(0),
        // What an exponent takes away must be zeros.
        Err(_) => {
            let unit = 10u128.checked_pow(shift.unsigned_abs())?;
            value.is_multiple_of(unit).then_some(value / unit)
        }
    }
}

/// A decimal number as [`decimal`], what lies beyond its decimals cut off, and whether anything did: collectors that add
/// up in floats write 0.30000000000000004.
pub fn cut(text: &str, decimals: u32) -> Option<(u128, bool)> {
    if let Some(exact) = decimal(text, decimals) {
        return Some((exact, false));
    }
    let (whole, part) = text.split_once('.')?;
    let digits = part.bytes().all(|byte| byte.is_ascii_digit());
    let kept = part.get(..decimals as usize).filter(|_| digits)?;
    Some((decimal(&format!("{whole}.{kept}"), decimals)?, true))
}

/// A signed whole number; collectors write ticks as `199045.0`.
pub fn whole(text: &str) -> Option<i128> {
    let text = text.split_once('.').filter(|(_, part)| part.bytes().all(|byte| byte == b'0')).map_or(text, |it| it.0);
    text.parse().ok()
}

/// The unit of a file's times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A date and a time of day.
    Date,
    /// Since 1970.
    Seconds,
    /// Since 1970.
    Milliseconds,
    /// Since 1970.
    Microseconds,
    /// Since 1970.
    Nanoseconds,
}

/// Reads the times of one file, all in the unit of the first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    unit: Option<Unit>,
}

impl Clock {
    /// Microseconds since 1970 (UTC), or what is wrong.
    pub fn time(&mut self, text: &str) -> Result<i64, String> {
        let (unit, time) = time(text).ok_or_else(|| format!("is not a time: {text}"))?;
        match self.unit.replace(unit) {
            Some(first) if first != unit => {
                Err(format!("is in {unit:?}, the rows before it are in {first:?}: {text}").to_lowercase())
            }
            _ => Ok(time),
        }
    }
}

/// The unit of a whole number goes by its size: years 1973 to 5138 in each.
fn time(text: &str) -> Option<(Unit, i64)> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let value: i64 = text.parse().ok()?;
        return Some(match value {
            100_000_000..100_000_000_000 => (Unit::Seconds, value * 1_000_000),
            100_000_000_000..100_000_000_000_000 => (Unit::Milliseconds, value * 1000),
            100_000_000_000_000..100_000_000_000_000_000 => (Unit::Microseconds, value),
            100_000_000_000_000_000.. => (Unit::Nanoseconds, value / 1000),
            _ => return None,
        });
    }
    stamp(text).map(|time| (Unit::Date, time))
}

/// `YYYY-MM-DD`, then after a blank or `T` `HH:MM:SS` with decimals; UTC, which `Z`, `+00:00` and `UTC` may say.
fn stamp(text: &str) -> Option<i64> {
    let bare = ["Z", "+00:00", " UTC", "+0000"].into_iter().find_map(|end| text.strip_suffix(end)).unwrap_or(text);
    let (date, clock) = bare.split_once([' ', 'T']).unwrap_or((bare, "00:00:00"));
    let number = |text: &str, length: usize| -> Option<i64> {
        (text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
    };
    let mut parts = date.split('-');
    let (year, month, day) = (number(parts.next()?, 4)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut hands = clock.split(':');
    let (hour, minute) = (number(hands.next()?, 2)?, number(hands.next()?, 2)?);
    let second = hands.next().map_or(Some(0), |text| number(text, 2))?;
    let known = parts.next().is_none() && hands.next().is_none();
    if !known || !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let micros = i64::try_from(decimal(&format!("0.{fraction}0"), 6).or_else(|| nanos(fraction))?).ok()?;
    let days = days(year, month, day);
    // A day that its month does not have comes back as another.
    (civil(days) == (year, month, day)).then_some(())?;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + micros)
}

/// Nine decimals, cut to six.
fn nanos(fraction: &str) -> Option<u128> {
    decimal(&format!("0.{fraction}"), 9).map(|nanos| nanos / 1000)
}

/// Days since 1970 of a date in the Gregorian calendar; years begin in March, so that the leap day is the last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era = year.div_euclid(400);
    let of_era = (year - era * 400) * 365 + (year - era * 400) / 4 - (year - era * 400) / 100;
    era * 146_097 + of_era + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// The date of a day since 1970.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted - era * 146_097;
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, day)
}

/// `YYYY-MM-DD HH:MM:SS` (UTC) of microseconds since 1970.
pub fn date(time: i64) -> String {
    let seconds = time.div_euclid(1_000_000);
    let (year, month, day) = civil(seconds.div_euclid(86_400));
    let clock = seconds.rem_euclid(86_400);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", clock / 3600, clock / 60 % 60, clock % 60)
}
