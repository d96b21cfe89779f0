//! The day that a template may write into its text. It comes from a recipe or an option and not from a clock: it is part
//! of what is trained and proved.

use std::fmt;
use std::str::FromStr;

/// A day of the Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    year: u16,
    month: u8,
    day: u8,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Days in a month.
fn length(year: u16, month: u8) -> u8 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 => 28 + u8::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl FromStr for Date {
    type Err = String;

    /// `2025-07-06`, from year 1 on.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("must be a day such as 2025-07-06: {text}");
        let digits = |part: &str, width: usize| {
            let digits = part.len() == width && part.bytes().all(|byte| byte.is_ascii_digit());
            if digits { part.parse::<u16>().ok() } else { None }
        };
        let parts: Vec<&str> = text.split('-').collect();
        let [year, month, day] = parts.as_slice() else { return Err(wrong()) };
        let part = |part: Option<u16>| part.and_then(|part| u8::try_from(part).ok()).ok_or_else(wrong);
        let (year, month, day) = (digits(year, 4).ok_or_else(wrong)?, part(digits(month, 2))?, part(digits(day, 2))?);
        match year > 0 && (1..=12).contains(&month) && (1..=length(year, month)).contains(&day) {
            true => Ok(Self { year, month, day }),
            false => Err(wrong()),
        }
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl Date {
    /// Days before this one in its year.
    fn passed(self) -> u16 {
        (1..self.month).map(|month| u16::from(length(self.year, month))).sum::<u16>() + u16::from(self.day) - 1
    }

    /// 0 on Sundays.
    fn weekday(self) -> usize {
        let years = u32::from(self.year) - 1;
        // The first day of year 1 was a Monday.
        let days = 365 * years + years / 4 - years / 100 + years / 400 + u32::from(self.passed());
        (days as usize + 1) % 7
    }

    /// The day as C's `strftime` writes it at midnight, in English.
    ///
    /// # Errors
    /// A code that is not known.
    pub fn format(self, format: &str) -> Result<String, String> {
        let mut text = String::new();
        let mut rest = format.chars();
        while let Some(c) = rest.next() {
            if c != '%' {
                text.push(c);
                continue;
            }
            let code = rest.next();
            let (bare, code) = if code == Some('-') { (true, rest.next()) } else { (false, code) };
            let number = |value: u16| if bare { value.to_string() } else { format!("{value:02}") };
            let (month, day) = (MONTHS[usize::from(self.month) - 1], DAYS[self.weekday()]);
            let piece = match code.unwrap_or('%') {
                'Y' => format!("{:04}", self.year),
                'y' => number(self.year % 100),
                'm' => number(self.month.into()),
                'd' => number(self.day.into()),
                'e' => format!("{:2}", self.day),
                'j' if bare => (self.passed() + 1).to_string(),
                'j' => format!("{:03}", self.passed() + 1),
                'B' => month.to_owned(),
                'b' | 'h' => month[..3].to_owned(),
                'A' => day.to_owned(),
                'a' => day[..3].to_owned(),
                'w' => self.weekday().to_string(),
                'u' => if self.weekday() == 0 { 7 } else { self.weekday() }.to_string(),
                'F' => self.to_string(),
                'D' | 'x' => format!("{:02}/{:02}/{:02}", self.month, self.day, self.year % 100),
                'H' | 'M' | 'S' => number(0),
                'I' => number(12),
                'p' => "AM".to_owned(),
                'R' => "00:00".to_owned(),
                'T' | 'X' => "00:00:00".to_owned(),
                'f' => "000000".to_owned(),
                'Z' | 'z' => String::new(),
                'n' => "\n".to_owned(),
                't' => "\t".to_owned(),
                '%' => "%".to_owned(),
                other => return Err(format!("strftime_now does not know this code: %{other}")),
            };
            text.push_str(&piece);
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_read_strictly_and_written_as_strftime_does() {
        let date: Date = "2024-02-29".parse().unwrap();
        let format = "%A %a %d %-d %e %B %b %m %Y %y %j %F %D %H:%M:%S %I %p %u %w %%";
        let expected = "Thursday Thu 29 29 29 February Feb 02 2024 24 060 2024-02-29 02/29/24 00:00:00 12 AM 4 4 %";
        assert_eq!(date.format(format).unwrap(), expected);
        assert_eq!("2000-01-01".parse::<Date>().unwrap().format("%A %-j").unwrap(), "Saturday 1");
        assert_eq!("2026-11-29".parse::<Date>().unwrap().format("%A %u").unwrap(), "Sunday 7");
        assert_eq!(date.format("%Q").unwrap_err(), "strftime_now does not know this code: %Q");
        for text in ["2023-02-29", "2024-13-01", "24-01-01", "2024-1-01", "2024-01-01T", "+024-01-01", "0000-01-01"] {
            assert_eq!(text.parse::<Date>(), Err(format!("must be a day such as 2025-07-06: {text}")));
        }
    }
}
