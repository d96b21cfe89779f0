//! The plan of a maker: one TOML file that says which market, which public controller within which limits, what
//! moving costs, and how decisions are made, learnt and judged.

use std::path::{Path, PathBuf};

use ftk_adapters::foreign;
use serde::{Deserialize, Serialize};

use super::DefiError;
use super::data;
use super::desk::book::Book;
use super::desk::liquidity::Liquidity;
use super::evaluate::Walk;
use super::market::{Bar, Market, bars_of_trades};
use super::replay::Terms;
use super::rows::Decisions;
use super::rules::{BookRules, PoolRules};
use super::{quoter, range};
use crate::builtin::PLANS;

/// A plan. Relative paths start at its folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The market, as `ftk defi import` wrote it, or `generated`.
    pub market: PathBuf,
    /// The base model, as in a recipe: `market` is the one that ships with ftk.
    pub base: PathBuf,
    /// Penalty a bar of a full inventory (of holding one token only), millionths of its worth.
    pub penalty: u32,
    /// When decisions are made, and what is learnt from them.
    pub decisions: Decisions,
    /// How the market is parted.
    pub walk: Walk,
    /// A quoter on an order book; this or `provider`.
    pub quoter: Option<Quoter>,
    /// A provider of liquidity in a pool.
    pub provider: Option<Provider>,
}

/// A quoter on an order book.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quoter {
    /// The public controller.
    pub controller: quoter::Controller,
    /// How the order book treats it.
    pub rules: BookRules,
}

/// A provider of liquidity in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// The public controller.
    pub controller: range::Controller,
    /// What moving costs.
    pub rules: PoolRules,
    /// What the pool is.
    pub terms: Terms,
}

/// The name of the market that ftk makes itself.
pub const GENERATED: &str = "generated";
/// Its seed and length: five days, and a pool of as many minutes.
const GENERATED_SEED: u64 = 20_240_101;
const GENERATED_BARS: usize = 7200;

/// Plans that ship with ftk and their market, by name; [`PLANS`] are all, with the folder `defi` before their names.
pub const SHIPPED: [(&str, &str); 2] =
    [("quoter", include_str!("../../defi/quoter.toml")), ("provider", include_str!("../../defi/provider.toml"))];

/// A maker's desk, whichever it is.
#[derive(Debug)]
pub enum Opened {
    /// A quoter's.
    Book(Book),
    /// A provider's.
    Liquidity(Liquidity),
}

impl Plan {
    /// Reads a plan, or takes one that ships with ftk by its name; its paths come back resolved. The market of one that
    /// ships without it is looked for where the command was given.
    ///
    /// # Errors
    /// The file system's; what is not TOML, unknown or out of range.
    pub fn load(path: &Path) -> Result<Self, DefiError> {
        let named = |name: &str| [path, &Path::new("defi").join(path)].contains(&Path::new(name));
        if let Some(plan) = PLANS.iter().find(|plan| named(plan.name) && !path.exists()) {
            return Self::parse(&path.display().to_string(), plan.text);
        }
        let text = foreign::read_text(path, foreign::DOCUMENT)
            .map_err(|source| DefiError::Io { path: path.to_owned(), source })?;
        let mut plan = Self::parse(&path.display().to_string(), &text)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        if plan.market != Path::new(GENERATED) {
            plan.market = folder.join(&plan.market);
        }
        if plan.base.components().count() > 1 {
            plan.base = folder.join(&plan.base);
        }
        Ok(plan)
    }

    /// Reads a plan from text; `place` names it in errors.
    ///
    /// # Errors
    /// What is not TOML, unknown or out of range.
    pub fn parse(place: &str, text: &str) -> Result<Self, DefiError> {
        let plan: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].lines().count().max(1));
            DefiError::setting(format!("{place}:{line}"), error.message().replace('\n', " "))
        })?;
        match (&plan.quoter, &plan.provider) {
            (Some(quoter), None) => quoter.controller.check(&format!("{place}: quoter.controller"))?,
            (None, Some(provider)) => provider.controller.check(&format!("{place}: provider.controller"))?,
            _ => return Err(DefiError::setting(place, "needs either [quoter] or [provider]")),
        }
        plan.decisions.check()?;
        Ok(plan)
    }

    /// What the plan states about controller, limits and rules, as one line of JSON: what a decision is checked
    /// against.
    pub fn terms_line(&self) -> String {
        let Self { penalty: _, market: _, base: _, decisions, walk: _, quoter, provider } = self;
        serde_json::json!({ "every": decisions.every, "quoter": quoter, "provider": provider }).to_string()
    }

    /// Reads the market and sits down at it; with the market's digest.
    ///
    /// # Errors
    /// A market that cannot be read or is of the wrong kind.
    pub fn open(&self) -> Result<(Opened, data::Digest), DefiError> {
        let (market, digest) = if self.market == Path::new(GENERATED) {
            let market = match self.provider {
                None => Market::Bars(super::generated::bars(GENERATED_SEED, GENERATED_BARS, super::generated::USUAL)),
                Some(_) => Market::Events(super::generated::pool_days(GENERATED_SEED, GENERATED_BARS)?),
            };
            let digest = data::digest(&market);
            (market, digest)
        } else {
            data::read(&self.market).map_err(|error| match error {
                DefiError::Io { path, source } if source.kind() == std::io::ErrorKind::NotFound => {
                    DefiError::NoMarket { path }
                }
                other => other,
            })?
        };
        Ok((self.sit(market)?, digest))
    }

    /// Sits down at a market.
    ///
    /// # Errors
    /// A market of the wrong kind, amounts beyond range.
    pub fn sit(&self, market: Market) -> Result<Opened, DefiError> {
        let wrong = |market: &Market, needed: &'static str| DefiError::Kind {
            path: self.market.clone(),
            found: market.kind(),
            needed,
        };
        Ok(match (self.quoter, self.provider) {
            (Some(Quoter { controller, rules }), _) => {
                let bars: Vec<Bar> = match market {
                    Market::Bars(bars) => bars,
                    Market::Trades(trades) => bars_of_trades(&trades)?,
                    other => return Err(wrong(&other, "bars or trades")),
                };
                Opened::Book(Book::new(bars, rules, controller, self.penalty)?)
            }
            (None, Some(Provider { controller, rules, terms })) => Opened::Liquidity(match market {
                Market::Minutes(minutes) => Liquidity::new(minutes, terms, rules, controller, self.penalty)?,
                Market::Events(events) => Liquidity::of_events(&events, terms, rules, controller, self.penalty)?,
                other => return Err(wrong(&other, "minutes or events of a pool")),
            }),
            (None, None) => unreachable!("a plan has one of them"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::defi::desk::Desk;
    use ftk_adapters::hint::Hint;

    #[test]
    fn shipped_plans_open_and_their_windows_fit() {
        for (name, text) in SHIPPED {
            assert!(text.starts_with("# ") && text.lines().next().unwrap().ends_with('.'), "{name}");
            let plan = Plan::load(Path::new(name)).unwrap();
            assert_eq!(Plan::load(&Path::new("defi").join(name)).unwrap(), plan);
            assert_eq!(plan.market, Path::new(GENERATED), "{name}");
            let bars = match plan.open().unwrap().0 {
                Opened::Book(desk) => desk.bars(),
                Opened::Liquidity(desk) => desk.bars(),
            };
            assert!(plan.walk.windows(bars, plan.decisions.horizon).unwrap().len() >= 3, "{name}");
            // Integers of any size come back from the line that logs carry.
            let terms: serde_json::Value = serde_json::from_str(&plan.terms_line()).unwrap();
            assert_eq!(terms["every"], plan.decisions.every, "{name}");
        }
    }

    #[test]
    fn every_plan_is_taken_by_name_and_misses_its_market_only() {
        for plan in PLANS {
            let bare = plan.name.strip_prefix("defi/").unwrap();
            let found = Plan::load(Path::new(plan.name)).unwrap();
            assert_eq!(Plan::load(Path::new(bare)).unwrap(), found);
            if found.market == Path::new(GENERATED) {
                assert!(SHIPPED.iter().any(|(name, _)| *name == bare), "{bare}");
                continue;
            }
            let refused = found.open().unwrap_err();
            assert_eq!(refused.to_string(), format!("{}: the plan's market is not there", found.market.display()));
            let hint = refused.hint().unwrap();
            assert!(hint.contains("ftk defi import") && hint.contains("ftk recipes cp"), "{hint}");
        }
        let unknown = Plan::load(Path::new("defi/nothing")).unwrap_err();
        assert!(matches!(unknown, DefiError::Io { .. }), "{unknown}");
    }

    #[test]
    fn plans_are_refused_with_place_and_reason() {
        let quoter = SHIPPED[0].1;
        let says = |text: &str| Plan::parse("plan.toml", text).unwrap_err().to_string();
        let unknown = says(&quoter.replace("penalty", "penalti"));
        assert!(unknown.starts_with("plan.toml:") && unknown.contains("unknown field `penalti`"), "{unknown}");
        let both =
            format!("{quoter}\n{}", SHIPPED[1].1.split_once("[provider").unwrap().1.replacen("", "[provider", 1));
        assert_eq!(says(&both), "plan.toml: needs either [quoter] or [provider]");
        let zero = says(&quoter.replace("every = 5", "every = 0"));
        assert_eq!(zero, "decisions.every: must be at least 1");
    }
}
