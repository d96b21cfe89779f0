//! The report of a backtest: what `backtest.json` holds, as a table in text and as one page of HTML with its plots
//! inside. A function of that file alone; readable on light and on dark paper.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::advice::{FOLLOWED, MakerAdvice};
use super::evaluate::{BLOCK, Interval, MIN_BLOCKS, MIN_WINDOWS, TOO_FEW, TableLine};
use ftk_recipes::plot::{self, Plot, escaped as escape};

/// A backtest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What it is of.
    pub title: String,
    /// Digest of the market.
    pub market: String,
    /// Bars of the market.
    pub bars: usize,
    /// Days that the bars last, without what is missing between them.
    pub days: f64,
    /// Hours that a block of bars lasts, over which tails and intervals are taken.
    pub block_hours: f64,
    /// The windows.
    pub windows: Vec<Tested>,
    /// The policy, then the baselines.
    pub lines: Vec<TableLine>,
    /// The policy in the last test.
    pub series: Series,
    /// What the pool would have done for others: of pools only.
    pub quality: Option<Quality>,
    /// What to do next, by the record of all tests.
    #[serde(default)]
    pub advice: Option<MakerAdvice>,
    /// Settings of baselines and adapters that were tried in each window, of which validation chose.
    #[serde(default)]
    pub tried: [usize; 2],
    /// What is to be known beside the figures.
    pub notes: Vec<String>,
}

/// A window as it was learnt and tested.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tested {
    /// First and last time of the training, validation and test bars.
    pub times: [[String; 2]; 3],
    /// Rows for supervised training.
    pub taught: usize,
    /// Preference pairs.
    pub pairs: usize,
    /// Share of decisions without a pair.
    pub dropped: f64,
    /// Share of the compared pairs of actions that were closer than the margin.
    pub close: f64,
    /// Which adapter was tested: `sft`, or `dpo` where that did no worse on validation.
    pub stage: String,
    /// Decisions of the test.
    pub decisions: usize,
    /// Head of the decision log of the test.
    pub head: String,
    /// Digest of the adapter's commitment.
    pub adapter: String,
}

/// Bars of one run, thinned for plots.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Hours since its beginning.
    pub hours: Vec<f64>,
    /// Price.
    pub price: Vec<f64>,
    /// Lower and upper bound of the quotes or of the range.
    pub bounds: Vec<Option<[f64; 2]>>,
    /// Worth of the inventory.
    pub inventory: Vec<f64>,
}

/// What takers find in the pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Money that moves the price by 2 % down and up, median over the test, without and with the policy's liquidity.
    pub depth: [[f64; 2]; 2],
    /// Money that is swapped, and its cost in basis points without and with the policy's liquidity.
    pub slippage: Vec<(f64, Option<f64>, Option<f64>)>,
}

/// Whom a column of the table is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReportHeading {
    /// Both makers.
    All,
    /// A quoter.
    Quoter,
    /// A provider of liquidity.
    Provider,
}

/// Heads of the table's columns, with what they are.
const COLUMNS: [(&str, ReportHeading, &str); 18] = [
    ("fees", ReportHeading::All, "fees earned; of a quoter the distance of its fills from the last price before them"),
    (
        "lost",
        ReportHeading::All,
        "lost to the price: against rebalancing (LVR); of a quoter whatever inventory and fills lost",
    ),
    (
        "costs",
        ReportHeading::All,
        "gas, fees and slippage of moving; of a quoter the exchange's fees, rebates being negative",
    ),
    ("net", ReportHeading::All, "fees - lost - costs"),
    (
        "net at least",
        ReportHeading::Provider,
        "net had there been no trade because of the provider: fees by its share of what was traded, all losses of the path",
    ),
    (
        "net a window",
        ReportHeading::All,
        "mean net of a window, with its 95 % interval where there are at least 20 windows",
    ),
    ("gained", ReportHeading::All, "windows with a net above 0, of all"),
    (
        "policy - it",
        ReportHeading::All,
        "the policy's net less this one's, with the 95 % interval of a block bootstrap",
    ),
    ("vs hold", ReportHeading::Provider, "worth at the end less that of having held what was there at the beginning"),
    ("IL", ReportHeading::Provider, "impermanent loss: held less the position's worth without fees and costs"),
    ("CVaR", ReportHeading::All, "mean net of the worst twentieth of the blocks of 60 bars"),
    ("turnover", ReportHeading::All, "worth of what was traded"),
    ("moves", ReportHeading::All, "moves of the position, or fills"),
    ("active", ReportHeading::All, "share of the bars in which fees could be earned"),
    ("inventory", ReportHeading::All, "standard deviation of the inventory's worth"),
    ("width", ReportHeading::All, "mean width of quotes or range, basis points"),
    ("markout", ReportHeading::Quoter, "mean gain of a fill five bars later, basis points, before fees"),
    ("share", ReportHeading::Provider, "mean own share of the liquidity in range, where in range"),
];

fn cells(line: &TableLine) -> [String; 18] {
    let it = &line.measures;
    let against = line.against.map_or(String::new(), |found| match (found.low, found.high) {
        (Some(low), Some(high)) => {
            format!("{} [{}, {}] {}", money(found.mean), money(low), money(high), found.verdict())
        }
        _ => format!("{} ({})", money(found.mean), found.verdict()),
    });
    [
        money(it.fees),
        money(it.lost),
        money(it.costs),
        money(it.net),
        money(it.least),
        line.by_window.map_or(String::new(), a_window),
        format!("{} of {}", line.nets.iter().filter(|net| **net > 0.0).count(), line.nets.len()),
        against,
        money(it.against_hold),
        money(it.impermanent),
        money(it.cvar),
        money(it.turnover),
        format!("{:.0}", it.moves),
        format!("{:.1} %", 100.0 * it.active),
        money(it.inventory),
        if it.spread < 1000.0 { format!("{:.1}", it.spread) } else { format!("{:.0}", it.spread) },
        format!("{:.2}", it.markout),
        format!("{:.3} %", 100.0 * it.share),
    ]
}

/// A mean over windows.
fn a_window(found: Interval) -> String {
    match (found.low, found.high) {
        (Some(low), Some(high)) => format!("{} [{}, {}]", money(found.mean), money(low), money(high)),
        _ => money(found.mean),
    }
}

/// Money with digits by its size.
fn money(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

impl Report {
    /// Places of the columns that are about this maker.
    fn columns(&self) -> Vec<usize> {
        let other = if self.quality.is_some() { ReportHeading::Quoter } else { ReportHeading::Provider };
        (0..COLUMNS.len()).filter(|&column| COLUMNS[column].1 != other).collect()
    }

    /// The table as text, names first.
    pub fn text(&self) -> String {
        let columns = self.columns();
        let row = |name: &str, cells: &[String]| -> Vec<String> {
            std::iter::once(name.to_owned()).chain(columns.iter().map(|&column| cells[column].clone())).collect()
        };
        let mut rows = vec![row("", &COLUMNS.map(|(name, ..)| name.to_owned()))];
        rows.extend(self.lines.iter().map(|line| row(&line.name, &cells(line))));
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
        let mut text = String::new();
        for row in &rows {
            for (column, cell) in row.iter().enumerate() {
                let pad = " ".repeat(widths[column] - cell.chars().count());
                let cell = if column == 0 { format!("{cell}{pad}") } else { format!("  {pad}{cell}") };
                text.push_str(&cell);
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        self.sentences().iter().fold(text, |text, sentence| text + sentence + "\n")
    }

    /// What the table comes to, what to do about it, and what was tried for it.
    pub fn sentences(&self) -> Vec<String> {
        let mut sentences = vec![self.verdict()];
        sentences.extend(self.advice.as_ref().map(MakerAdvice::text));
        let windows = self.windows.len();
        if self.tried != [0, 0] {
            let [settings, adapters] = self.tried;
            let few = if windows < MIN_WINDOWS {
                format!("; an interval over windows needs {MIN_WINDOWS}")
            } else {
                String::new()
            };
            sentences.push(format!(
                "In each of {windows} windows {settings} settings of baselines and {adapters} adapters were tried on \
                 validation{few}."
            ));
        }
        sentences
    }

    /// What the table comes to, in a sentence.
    pub fn verdict(&self) -> String {
        let others = || self.lines.iter().filter(|line| line.against.is_some() && line.name != FOLLOWED);
        let Some(best) = others().max_by(|a, b| a.measures.net.total_cmp(&b.measures.net)) else {
            return "There is nothing to compare with.".to_owned();
        };
        let Some(interval) = best.against else { unreachable!("filtered above") };
        let name = &best.name;
        match interval.verdict() {
            "better" => format!("The policy's net is above that of the best baseline, {name}."),
            "worse" => format!("The policy's net is below that of the best baseline, {name}."),
            TOO_FEW => format!(
                "The tests are too few blocks of {BLOCK} bars to compare the policy with the best baseline, {name}: \
                 an interval needs {MIN_BLOCKS}."
            ),
            _ => format!("The policy and the best baseline, {name}, are a tie: the interval holds 0."),
        }
    }

    /// One page.
    pub fn html(&self) -> String {
        let mut out = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}{colours}\
             </style></head><body>\n<h1>{title}</h1>\n<p>{bars} bars, {days:.1} days together; market <code>{market}</code>. Money is \
             in whole units.</p>\n<p class=\"note\">{verdict}</p>\n",
            title = escape(&self.title),
            colours = plot::style(),
            bars = self.bars,
            days = self.days,
            market = escape(&self.market),
            verdict = escape(&self.sentences().join(" ")),
        );
        let mut push =
            |arguments: std::fmt::Arguments<'_>| out.write_fmt(arguments).expect("a string takes everything");
        for note in &self.notes {
            push(format_args!("<p class=\"note\">{}</p>\n", escape(note)));
        }
        push(format_args!("<h2>All tests together</h2>\n<div><table><tr><th></th>"));
        let columns = self.columns();
        for (name, _, title) in columns.iter().map(|&column| COLUMNS[column]) {
            push(format_args!("<th title=\"{}\">{}</th>", escape(title), escape(name)));
        }
        push(format_args!("</tr>\n"));
        for line in &self.lines {
            push(format_args!("<tr><th>{}</th>", escape(&line.name)));
            let cells = cells(line);
            columns.iter().for_each(|&column| push(format_args!("<td>{}</td>", escape(&cells[column]))));
            push(format_args!("</tr>\n"));
        }
        push(format_args!("</table></div>\n<dl>"));
        for (name, _, title) in columns.iter().map(|&column| COLUMNS[column]) {
            push(format_args!("<dt>{}</dt><dd>{}</dd>", escape(name), escape(title)));
        }
        push(format_args!("</dl>\n<h2>Windows</h2>\n<div><table><tr><th></th>"));
        for head in [
            "training",
            "validation",
            "test",
            "adapter of",
            "rows",
            "pairs",
            "decisions without a pair",
            "actions within the margin",
            "decisions",
            "adapter",
            "log",
        ] {
            push(format_args!("<th>{head}</th>"));
        }
        push(format_args!("</tr>\n"));
        for (index, window) in self.windows.iter().enumerate() {
            push(format_args!("<tr><th>{}</th>", index + 1));
            // To the minute.
            let minute = |time: &str| escape(time.get(..16).unwrap_or(time));
            let times = window.times.iter().map(|[from, to]| (minute(from), minute(to)));
            times.for_each(|(from, to)| push(format_args!("<td>{from}<br>{to}</td>")));
            push(format_args!(
                "<td>{}</td><td>{}</td><td>{}</td><td>{:.1} %</td><td>{:.1} %</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
                escape(&window.stage),
                window.taught,
                window.pairs,
                100.0 * window.dropped,
                100.0 * window.close,
                window.decisions,
                short(&window.adapter),
                short(&window.head)
            ));
        }
        push(format_args!("</table></div>\n<h2>Utility by window</h2>\n<div><table><tr><th></th>"));
        let windows = self.lines.iter().map(|line| line.windows.len()).max().unwrap_or(0);
        (1..=windows).for_each(|window| push(format_args!("<th>{window}</th>")));
        push(format_args!("<th class=\"settings\">tested adapter, or setting, by window</th></tr>\n"));
        for line in &self.lines {
            push(format_args!("<tr><th>{}</th>", escape(&line.name)));
            line.windows.iter().for_each(|value| push(format_args!("<td>{}</td>", money(*value))));
            push(format_args!("<td class=\"settings\">{}</td></tr>\n", escape(&line.detail)));
        }
        push(format_args!("</table></div>\n"));
        if let Some(quality) = &self.quality {
            push(format_args!(
                "<h2>For takers</h2>\n<table><tr><th></th><th>without</th><th>with the policy</th></tr>\n"
            ));
            for (side, name) in [(0, "2 % down"), (1, "2 % up")] {
                let [without, with] = quality.depth.map(|depth| money(depth[side]));
                push(format_args!("<tr><th>depth to {name}</th><td>{without}</td><td>{with}</td></tr>\n"));
            }
            let cost =
                |cost: &Option<f64>| cost.map_or("too little liquidity".to_owned(), |bps| format!("{bps:.2} bps"));
            for (size, without, with) in &quality.slippage {
                let (without, with) = (cost(without), cost(with));
                push(format_args!("<tr><th>cost of {}</th><td>{without}</td><td>{with}</td></tr>\n", money(*size)));
            }
            push(format_args!("</table>\n"));
        }
        let nets: Vec<(&str, Vec<f64>)> =
            self.lines.iter().map(|line| (line.name.as_str(), line.path.clone())).collect();
        let hours = |block: usize| (block + 1) as f64 * self.block_hours;
        let longest = nets.iter().map(|(_, path)| path.len()).max().unwrap_or(0);
        let (unit, long) = scale(hours(longest));
        let along = |path: Vec<f64>| path.into_iter().enumerate().map(|(at, net)| (hours(at) / long, net)).collect();
        let title = format!("fees - losses - costs over all tests one after another, by {unit}");
        let lines = nets.into_iter().map(|(name, path)| (name, along(path))).collect();
        push(format_args!("<h2>Plots</h2>\n{}", Plot { title: &title, lines, band: Vec::new(), size: SIZE }.html()));
        let Series { hours, price, bounds, inventory } = &self.series;
        let (unit, long) = scale(hours.last().copied().unwrap_or(0.0));
        let along = |values: &[f64]| hours.iter().map(|hour| hour / long).zip(values.iter().copied()).collect();
        let band = hours.iter().map(|hour| hour / long).zip(bounds.iter().copied()).collect();
        let title = format!("price, and the policy's quotes or range behind it, in the last test, by {unit}");
        push(format_args!("{}", Plot { title: &title, lines: vec![("price", along(price))], band, size: SIZE }.html()));
        let title = format!("worth of the policy's inventory in the last test, by {unit}");
        let lines = vec![("inventory", along(inventory))];
        push(format_args!("{}</body></html>\n", Plot { title: &title, lines, band: Vec::new(), size: SIZE }.html()));
        out
    }
}

/// Size of a plot's lines.
const SIZE: (f64, f64) = (900.0, 240.0);

/// What a stretch of so many hours is told in, and the hours of that.
fn scale(hours: f64) -> (&'static str, f64) {
    if hours > 100.0 { ("day", 24.0) } else { ("hour", 1.0) }
}

fn short(digest: &str) -> String {
    escape(&digest.chars().take(16).collect::<String>())
}

const STYLE: &str = "body{font:14px system-ui,sans-serif;margin:2em auto;max-width:90em;padding:0 1em;color:#222;background:#fff}\
    div{overflow-x:auto}code{font-size:11px}svg{max-width:100%;height:auto}\
    table{border-collapse:collapse;font-size:12px}th,td{padding:.2em .6em;text-align:right;border-bottom:1px solid #ddd;\
    font-variant-numeric:tabular-nums;white-space:nowrap}th:first-child{text-align:left}\
    tr:first-child th{white-space:normal;vertical-align:bottom}\
    .settings{text-align:left;white-space:normal}dl{font-size:12px}dt{float:left;clear:left;\
    width:8em;font-weight:600}dd{margin-left:9em}.note{font-weight:600}\
    @media(prefers-color-scheme:dark){body{color:#ddd;background:#161616}th,td{border-color:#383838}}";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::{Interval, Measures};

    fn report(low: f64, high: f64) -> Report {
        let line = |name: &str, utility, against| TableLine {
            name: name.to_owned(),
            detail: "<detail>".to_owned(),
            measures: Measures { utility, net: utility, ..Measures::default() },
            against,
            windows: vec![utility],
            nets: vec![utility],
            by_window: Some(crate::evaluate::over_windows(&[utility; 20], 1)),
            path: vec![0.5, utility],
        };
        let against = Some(Interval { mean: (low + high) / 2.0, low: Some(low), high: Some(high) });
        let lines = vec![line("policy", 1.0, None), line("best", 0.9, against), line("other", 0.1, against)];
        let series = Series {
            hours: vec![0.0, 1.0],
            price: vec![5.0, 6.0],
            bounds: vec![None, Some([4.0, 7.0])],
            inventory: vec![0.0, -1.0],
        };
        let (title, market, notes) = ("a & b".to_owned(), "00".to_owned(), vec!["few days".to_owned()]);
        let (bars, days, block_hours) = (10, 1.5, 1.0);
        let (windows, quality, advice, tried) = (Vec::new(), None, None, [64, 2]);
        Report { title, market, bars, days, block_hours, windows, lines, series, quality, advice, tried, notes }
    }

    #[test]
    fn a_tie_is_stated_as_a_tie() {
        assert!(report(-1.0, 2.0).verdict().contains("best, are a tie"));
        assert!(report(1.0, 2.0).verdict().contains("above that of the best baseline, best"));
        assert!(report(-2.0, -1.0).verdict().contains("below"));
        let text = report(-1.0, 2.0).text();
        assert!(text.contains("0.5000 [-1.00, 2.00] tie") && text.contains("1.00 [1.00, 1.00]"), "{text}");
        assert!(
            text.contains("  1 of 1") && text.contains("64 settings of baselines and 2 adapters were tried"),
            "{text}"
        );
    }

    #[test]
    fn too_few_blocks_are_said_to_be_too_few() {
        let mut few = report(1.0, 2.0);
        few.lines.iter_mut().filter_map(|line| line.against.as_mut()).for_each(|it| (it.low, it.high) = (None, None));
        assert!(few.verdict().contains("too few blocks of 60 bars") && few.verdict().contains("needs 30"));
        assert!(few.text().contains("1.50 (too few blocks)") && few.html().contains("1.50 (too few blocks)"));
        let json = serde_json::to_string(&few).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), few);
    }

    #[test]
    fn the_page_is_one_file_and_escapes_names() {
        let page = report(-1.0, 2.0).html();
        assert!(page.contains("<h1>a &amp; b</h1>") && page.contains("&lt;detail&gt;") && page.contains("few days"));
        assert_eq!(page.matches("<svg").count(), 3);
        assert!(page.contains(&format!("blocks of {BLOCK} bars")) && page.contains("by hour"));
        let long = Report { block_hours: 60.0, ..report(-1.0, 2.0) };
        assert!(long.html().contains("one after another, by day"));
        assert!(!page.contains("http") && !page.contains("NaN"), "{page}");
        let json = serde_json::to_string(&report(-1.0, 2.0)).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report(-1.0, 2.0));
    }
}
