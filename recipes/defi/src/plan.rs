//! The plan of a maker: one TOML file that says which market, which public controller within which limits, what
//! moving costs, and how decisions are made, learnt and judged.

use std::path::{Path, PathBuf};

use ftk_adapters::foreign;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DefiError;
use super::data;
use super::evaluate::WalkForward;
use super::market::{Bar, Market, bars_of_trades};
use super::replay::Terms;
use super::rows::Decisions;
use super::rules::{BookRules, PoolRules};
use super::simulation::book::Book;
use super::simulation::liquidity::Liquidity;
use super::{quoter, range};
use crate::PLANS;
use ftk_recipes::shipped::{among, meant};
use ftk_recipes::source::{Override, RecipeSource};
use ftk_recipes::{Builtin, RecipeError, schema_of};

/// A plan. Relative paths start at its folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    pub walk: WalkForward,
    /// A quoter on an order book; this or `provider`.
    pub quoter: Option<Quoter>,
    /// A provider of liquidity in a pool.
    pub provider: Option<Provider>,
}

/// A quoter on an order book.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quoter {
    /// The public controller.
    pub controller: quoter::QuoteController,
    /// How the order book treats it.
    pub rules: BookRules,
}

/// A provider of liquidity in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// The public controller.
    pub controller: range::RangeController,
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
    [("quoter", include_str!("../quoter.toml")), ("provider", include_str!("../provider.toml"))];

/// The plan that ships under a name, with the folder `defi` before it or without, unless there is a file of that name here.
pub fn named(path: &Path) -> Option<&'static Builtin> {
    among(PLANS, "defi", path)
}

/// A maker's simulation, whichever it is.
#[derive(Debug)]
pub enum MakerSimulation {
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
        Self::load_with(path, &[])
    }

    /// [`Plan::load`] with settings `key=value` laid over the plan as if they stood in it, as over a recipe.
    ///
    /// # Errors
    /// As [`Plan::load`]; where a setting is at fault, the error names it as `--set key`.
    pub fn load_with(path: &Path, settings: &[String]) -> Result<Self, DefiError> {
        if let Some(plan) = named(path) {
            return Self::parse_with(path, plan.text, settings);
        }
        let text = foreign::read_text(path, foreign::DOCUMENT).map_err(|error| {
            DefiError::Plan(RecipeError::unreadable("plan", path, &error, meant("plan", PLANS, path)))
        })?;
        Self::read(path, &text, settings, path.parent().unwrap_or(Path::new("")))
    }

    /// Reads a plan from text; `place` names it in errors.
    ///
    /// # Errors
    /// What is not TOML, unknown or out of range.
    pub fn parse(place: &str, text: &str) -> Result<Self, DefiError> {
        Self::parse_with(Path::new(place), text, &[])
    }

    /// [`Plan::parse`] with settings laid over the text as in [`Plan::load_with`].
    ///
    /// # Errors
    /// As [`Plan::load_with`].
    pub fn parse_with(path: &Path, text: &str, settings: &[String]) -> Result<Self, DefiError> {
        Self::read(path, text, settings, Path::new(""))
    }

    /// [`Plan::parse_with`] with paths resolved: those of the text against a folder, those of settings against the
    /// current one, where they were typed.
    fn read(path: &Path, text: &str, settings: &[String], folder: &Path) -> Result<Self, DefiError> {
        let overrides = Override::read(settings, text.len()).map_err(DefiError::Plan)?;
        let source = RecipeSource::new(path, text, &overrides).map_err(DefiError::Plan)?;
        let mut plan: Self = source.read().map_err(DefiError::Plan)?;
        let at_its_key = |error| match error {
            DefiError::Setting { place, message } => DefiError::Plan(source.refuse(&place, &message)),
            other => other,
        };
        match (&plan.quoter, &plan.provider) {
            (Some(quoter), None) => quoter.controller.check("quoter.controller").map_err(at_its_key)?,
            (None, Some(provider)) => provider.controller.check("provider.controller").map_err(at_its_key)?,
            (Some(_), Some(_)) => {
                return Err(DefiError::Plan(source.refuse("provider", "cannot stand beside [quoter]")));
            }
            (None, None) => {
                return Err(DefiError::Plan(source.refuse("quoter", "is missing, or a section [provider]")));
            }
        }
        plan.decisions.check().map_err(at_its_key)?;
        let start = |key| if source.is_typed(key) { Path::new("") } else { folder };
        if plan.market != Path::new(GENERATED) {
            plan.market = start("market").join(&plan.market);
        }
        if plan.base.components().count() > 1 {
            plan.base = start("base").join(&plan.base);
        }
        Ok(plan)
    }

    /// What a plan may hold, as a JSON Schema (draft 2020-12).
    pub fn schema() -> serde_json::Value {
        schema_of::<Self>()
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
    pub fn open(&self) -> Result<(MakerSimulation, data::MarketDigest), DefiError> {
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
    pub fn sit(&self, market: Market) -> Result<MakerSimulation, DefiError> {
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
                MakerSimulation::Book(Book::new(bars, rules, controller, self.penalty)?)
            }
            (None, Some(Provider { controller, rules, terms })) => MakerSimulation::Liquidity(match market {
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
    use crate::simulation::Simulation;
    use ftk_adapters::hint::Hint;

    #[test]
    fn shipped_plans_open_and_their_windows_fit() {
        for (name, text) in SHIPPED {
            assert!(text.starts_with("# ") && text.lines().next().unwrap().ends_with('.'), "{name}");
            let plan = Plan::load(Path::new(name)).unwrap();
            assert_eq!(Plan::load(&Path::new("defi").join(name)).unwrap(), plan);
            assert_eq!(plan.market, Path::new(GENERATED), "{name}");
            let bars = match plan.open().unwrap().0 {
                MakerSimulation::Book(simulation) => simulation.bars(),
                MakerSimulation::Liquidity(simulation) => simulation.bars(),
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
        assert!(unknown.to_string().starts_with("defi/nothing: cannot read the plan: "), "{unknown}");
        let misspelt = Plan::load(Path::new("quotr")).unwrap_err().hint().unwrap();
        assert!(misspelt.ends_with("; did you mean defi/quoter?"), "{misspelt}");
    }

    #[test]
    fn the_schema_has_every_key_with_its_doc() {
        let schema = Plan::schema();
        let tables = schema["$defs"].as_object().unwrap().values().chain([&schema]);
        for (key, property) in tables.filter_map(|table| table["properties"].as_object()).flatten() {
            assert!(property["description"].is_string(), "{key}: {property}");
        }
        assert_eq!(schema["properties"]["market"]["type"], "string");
    }

    #[test]
    fn plans_are_refused_with_place_and_reason() {
        let quoter = SHIPPED[0].1;
        let says = |text: &str| Plan::parse("plan.toml", text).unwrap_err().to_string();
        let unknown = says(&quoter.replace("penalty", "penalti"));
        assert!(unknown.starts_with("plan.toml:") && unknown.contains("unknown key: penalti"), "{unknown}");
        let both =
            format!("{quoter}\n{}", SHIPPED[1].1.split_once("[provider").unwrap().1.replacen("", "[provider", 1));
        assert!(says(&both).ends_with(":provider: cannot stand beside [quoter]"), "{}", says(&both));
        let zero = says(&quoter.replace("every = 5", "every = 0"));
        let line = 1 + quoter.lines().position(|line| line.starts_with("every")).unwrap();
        assert_eq!(zero, format!("plan.toml:{line}:decisions.every: must be at least 1"));
        // As over a recipe.
        let set = |setting: &str| Plan::parse_with(Path::new("plan.toml"), quoter, &[setting.to_owned()]);
        assert_eq!(set("walk.windows=7").unwrap().walk.windows, 7);
        let refused = |setting: &str| match set(setting).unwrap_err() {
            DefiError::Plan(error) => (error.to_string(), error.hint.unwrap_or_default()),
            other => panic!("{other}"),
        };
        assert_eq!(
            refused("walk.window=7"),
            ("--set walk.window: unknown key: window".into(), "did you mean windows?".into())
        );
        let size = refused("quoter.controller.size=0").0;
        assert!(size.starts_with("--set quoter.controller.size: must be from 1 to "), "{size}");
    }
}
