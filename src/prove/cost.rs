//! What commitments and proofs cost, by arithmetic: the model behind `ftk estimate` and the refusals of what does not
//! fit.
//!
//! Memory is what the large arrays take, all counted at their largest at once. Time is linear in weights and rows
//! with rates measured on two cores ([`Rates`]); it is meant to tell seconds from hours.

use ftk_adapters::foreign;
use ftk_adapters::lora::{Adapter, Factors};
use ftk_circuits::sealed::Work;
use ftk_circuits::{EncodingError, MAX_RANK, SiteShape, required_columns, required_k};
use ftk_networks::sites::Role;
use ftk_proofs::Net;
use ftk_proofs::limits::{DELTA, INPUT, expanded};

/// Bytes of a node of the tree of fractions by which an adapter is registered, for each of its cells, of which a tree
/// takes at most [`TREE_CELLS`].
const TREE_CELL: u64 = 64;
/// The most cells of one tree.
const TREE_CELLS: u64 = 1 << 22;
/// Bytes of a delta of an independent row in a bundle: two's complement of some 7 bytes that hardly compress.
const DELTA_SENT: u64 = 7;
/// Bytes of the coefficient of a row on an independent one.
const COEFFICIENT_SENT: u64 = 12;
/// Bytes of a delta proof and its link, which hardly depend on the adapter.
const PROOF_SENT: u64 = 4 << 10;
/// Bytes of a registration whatever the adapter: commitments to how often each 16-bit integer occurs, and to messages.
const REGISTERED: u64 = 16 << 10;
/// Bytes of a logit behind a digest in a sealed bundle.
const LOGIT_SENT: u64 = 4;
/// The same in memory: as it was found, stated of its row and of all rows, noted, and sent.
const LOGIT: u64 = 8 + 8 + 8 + 8 + LOGIT_SENT;
/// Bytes of the commitment to a column.
const COLUMN: u64 = 32;
/// Bytes of a cell of a column, or of a weight as the prover folds it.
const FIELD: u64 = 32;
/// What a process takes that does none of this.
const PROCESS: u64 = 64 << 20;

/// Time of one core and unit, in nanoseconds.
pub struct Rates {
    /// A weight of the base on a row, exactly.
    pub replay: f64,
    /// A weight of the adapter in a delta proof.
    pub prove: f64,
    /// The same, verified.
    pub verify: f64,
    /// A weight of the adapter committed to and registered.
    pub register: f64,
    /// The same, verified.
    pub check: f64,
    /// A weight of the base, read, hashed and brought to integers.
    pub read: f64,
}

/// Fitted to what SmolLM2-135M (135 million parameters, 2.4 million weights of adapter, 64 tokens) took on two cores:
/// see the table of `benches/README.md` and `cargo bench --bench prove`.
pub const RATES: Rates = Rates { replay: 0.1, prove: 600.0, verify: 180.0, register: 1_600.0, check: 35.0, read: 11.0 };

/// Cores that work is spread over, at most.
const CORES: u64 = 64;

/// What an adapter and a number of rows cost.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Costs {
    /// Base 2 logarithm of the rows of a column.
    pub k: u32,
    /// Columns of the commitment.
    pub columns: u64,
    /// Weights of the adapter.
    pub weights: u64,
    /// Exact deltas that a bundle holds.
    pub deltas: u64,
    /// Bytes of `commitment.bin` and `registration.bin`, which come with every bundle.
    pub registered_bytes: u64,
    /// Bytes of the other files of a bundle.
    pub bundle_bytes: u64,
    /// Bytes of memory of `ftk commit`.
    pub commit_memory: u64,
    /// Bytes of memory of `ftk prove`.
    pub prove_memory: u64,
    /// Bytes of memory of `ftk verify`.
    pub verify_memory: u64,
    /// Seconds of `ftk commit`.
    pub commit_seconds: f64,
    /// Seconds of `ftk prove`, without the search for the text of a completion.
    pub prove_seconds: f64,
    /// Seconds of `ftk verify`.
    pub verify_seconds: f64,
}

/// The base, as far as costs depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BaseCost {
    /// Parameters of linear sites and the head, each counted as often as it is multiplied with.
    pub multiplied: u64,
    /// All parameters.
    pub parameters: u64,
}

impl BaseCost {
    /// Of a network.
    pub fn of(network: &Net) -> Self {
        let shapes = network.shapes();
        let size = |shape: &Vec<usize>| shape.iter().product::<usize>() as u64;
        let sites = network.sites().into_iter().filter(|site| matches!(site.role, Role::Linear | Role::Head));
        Self {
            multiplied: sites.filter_map(|site| shapes.get(&format!("{}.weight", site.weight)).map(size)).sum(),
            parameters: shapes.values().map(size).sum(),
        }
    }
}

/// What an adapter's sites look like to costs, in canonical order. Scales do not matter to them.
pub fn shapes(network: &Net, adapter: &Adapter) -> Vec<SiteShape> {
    let sites = network.sites();
    let adapted = sites.iter().filter_map(|site| adapter.sites.get_key_value(&site.name));
    let shape = |(name, factors): (&String, &Factors)| SiteShape {
        name: name.clone(),
        rank: factors.rank as u32,
        d_in: factors.d_in as u32,
        d_out: factors.d_out as u32,
        shift_a: 0,
        shift_b: 0,
    };
    adapted.map(shape).collect()
}

impl Costs {
    /// Of an adapter of these shapes, in the order it is committed to, and `rows` tokens.
    ///
    /// # Errors
    /// Shapes that cannot be committed to.
    pub fn of(base: BaseCost, shapes: &[SiteShape], rows: u64) -> Result<Self, EncodingError> {
        let (k, columns) = (required_k(shapes)?, required_columns(shapes)? as u64);
        let per_row = |dimension: fn(&SiteShape) -> u32| shapes.iter().map(|shape| u64::from(dimension(shape))).sum();
        let (inputs, outputs): (u64, u64) = (per_row(|shape| shape.d_in), per_row(|shape| shape.d_out));
        let weight = |shape: &SiteShape| u64::from(shape.rank) * (u64::from(shape.d_in) + u64::from(shape.d_out));
        let weights = shapes.iter().map(weight).sum();
        let deltas = outputs * rows;
        let held = held(base);
        let cells = columns << k;
        let records = DELTA * deltas + INPUT * inputs * rows;
        let seconds = |nanoseconds: f64| nanoseconds / 1e9 / cores();
        let (read, adapter) = (RATES.read * base.parameters as f64, weights as f64);
        let replay = RATES.replay * (base.multiplied * rows) as f64;
        Ok(Self {
            k,
            columns,
            weights,
            deltas,
            registered_bytes: REGISTERED + columns * COLUMN,
            bundle_bytes: PROOF_SENT + shapes.iter().map(|shape| sent(shape, rows)).sum::<u64>(),
            commit_memory: held + FIELD * cells + TREE_CELL * cells.min(TREE_CELLS),
            prove_memory: held + records + FIELD * weights,
            verify_memory: PROCESS + integers(base) + expanded(shapes, &vec![rows as usize; shapes.len()]),
            commit_seconds: seconds(read + RATES.register * adapter),
            prove_seconds: seconds(read + replay + RATES.prove * adapter),
            verify_seconds: seconds(read + replay + (RATES.verify + RATES.check) * adapter),
        })
    }
}

/// Time of one core and unit of a sealed proof, in nanoseconds, beside what [`Work::nanoseconds`] has.
pub struct SealedRates {
    /// A weight of the base, weighed by the prover.
    pub weigh: f64,
    /// A point that is checked.
    pub check: f64,
}

/// Fitted to core-seconds of phases: `cargo bench --bench prove -- sealed`.
pub const SEALED_RATES: SealedRates = SealedRates { weigh: 12.0, check: 70_000.0 };

/// What a sealed proof costs.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct SealedCosts {
    /// Cells that are committed to.
    pub cells: u64,
    /// Leaves of trees of fractions.
    pub leaves: u64,
    /// Products of field elements in the sums.
    pub products: u64,
    /// Points that are sent.
    pub points: u64,
    /// Bytes of a bundle's files but the statement, and for nodes the graph.
    pub bundle_bytes: u64,
    /// Bytes of memory of `ftk prove`.
    pub prove_memory: u64,
    /// The same beside what it takes before the proof begins.
    pub seal_memory: u64,
    /// Seconds of `ftk prove`, without the search for the text of a completion.
    pub prove_seconds: f64,
    /// Seconds of `ftk verify`.
    pub verify_seconds: f64,
}

impl SealedCosts {
    /// Of a plan over so many rows, for an adapter of these shapes; so many logits come along.
    ///
    /// # Errors
    /// Shapes that cannot be committed to.
    pub fn of(
        base: BaseCost,
        shapes: &[SiteShape],
        rows: u64,
        work: &Work,
        logits: u64,
    ) -> Result<Self, EncodingError> {
        let open = Costs::of(base, shapes, rows)?;
        let memory = work.memory + LOGIT * logits;
        let Work { cells, leaves, products, points, .. } = *work;
        let rates = SEALED_RATES;
        let read = RATES.read * base.parameters as f64;
        let weighed = rates.weigh * base.multiplied as f64;
        let proved = work.nanoseconds() as f64;
        let replay = RATES.replay * (base.multiplied * rows) as f64;
        Ok(Self {
            cells,
            leaves,
            products,
            points,
            bundle_bytes: open.registered_bytes + work.bytes + LOGIT_SENT * logits,
            // The pass comes first, and what it records is gone when the proof begins.
            prove_memory: open.prove_memory.max(held(base) + memory),
            seal_memory: memory,
            prove_seconds: (read + replay + weighed + proved) / 1e9 / cores(),
            verify_seconds: (read + weighed + rates.check * points as f64) / 1e9 / cores(),
        })
    }
}

/// Cores that there are, as far as work is spread over them.
fn cores() -> f64 {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64).min(CORES) as f64
}

/// Bytes of a process that holds a base, as integers of 16 bits, tables of 32, and floats.
fn held(base: BaseCost) -> u64 {
    PROCESS + integers(base) + 4 * base.parameters
}

fn integers(base: BaseCost) -> u64 {
    2 * base.multiplied + 4 * base.parameters.saturating_sub(base.multiplied)
}

/// Bytes of a site's deltas in a bundle.
fn sent(shape: &SiteShape, rows: u64) -> u64 {
    let independent = rows.min(u64::from(shape.rank));
    independent * (DELTA_SENT * u64::from(shape.d_out) + COEFFICIENT_SENT * (rows - independent))
}

/// What to say of an adapter that can be trained and not committed to, before it is trained.
pub fn uncommittable(error: &EncodingError) -> String {
    format!(
        "no commitment can be made to this adapter, and nothing be proved of it: {error}; ranks up to {MAX_RANK} can"
    )
}

/// The same of an adapter of which only the highest rank is known.
pub fn beyond_rank(rank: usize) -> Option<String> {
    let value = rank as u64;
    (value > u64::from(MAX_RANK)).then(|| uncommittable(&EncodingError::Bounds { what: "rank", value }))
}

/// Whether the integers of a base have room in what is free.
pub fn fits(network: &Net) -> bool {
    available_memory().is_none_or(|free| PROCESS + integers(BaseCost::of(network)) < free)
}

/// Bytes of memory that are free for a program, where the system says so.
pub fn available_memory() -> Option<u64> {
    let text = foreign::read_text("/proc/meminfo".as_ref(), foreign::DOCUMENT).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes(sites: usize) -> Vec<SiteShape> {
        let shape =
            |index| SiteShape { name: format!("s{index}"), rank: 8, d_in: 576, d_out: 1536, shift_a: 0, shift_b: 0 };
        (0..sites).map(shape).collect()
    }

    #[test]
    fn what_grows_with_rows_and_what_does_not() {
        let base = BaseCost { multiplied: 1_000_000, parameters: 1_200_000 };
        let of = |sites, rows| Costs::of(base, &shapes(sites), rows).unwrap();
        let (few, many) = (of(10, 16), of(10, 64));
        assert_eq!((few.weights, few.deltas), (10 * 8 * (576 + 1536), 10 * 1536 * 16));
        assert_eq!((few.k, few.columns, few.registered_bytes), (many.k, many.columns, many.registered_bytes));
        assert_eq!(few.commit_memory, many.commit_memory);
        assert_eq!(many.verify_memory - few.verify_memory, 48 * 10 * (16 * 1536 + 12 * 576));
        assert!(many.bundle_bytes > few.bundle_bytes && many.prove_seconds > few.prove_seconds);
        assert!(of(20, 16).commit_seconds > few.commit_seconds);
    }

    #[test]
    fn a_sealed_proof_needs_what_the_pass_needs_or_the_proof_whichever_is_more() {
        let base = BaseCost { multiplied: 1_000_000, parameters: 1_200_000 };
        let work = |memory| Work {
            cells: 1 << 20,
            leaves: 1 << 22,
            trees: 1,
            products: 1 << 24,
            points: 3000,
            bytes: 96_000,
            memory,
        };
        let of = |memory| SealedCosts::of(base, &shapes(10), 16, &work(memory), 0).unwrap();
        let open = Costs::of(base, &shapes(10), 16).unwrap();
        assert_eq!(of(1).prove_memory, open.prove_memory);
        assert_eq!(of(8 << 30).prove_memory, held(base) + (8 << 30));
        assert_eq!(of(1).bundle_bytes, open.registered_bytes + 96_000);
        assert!(of(1).prove_seconds > open.prove_seconds);
        let with_logits = SealedCosts::of(base, &shapes(10), 16, &work(1), 1000).unwrap();
        assert_eq!(with_logits.bundle_bytes - of(1).bundle_bytes, 4000);
        assert_eq!(with_logits.seal_memory - of(1).seal_memory, 36_000);
    }

    #[test]
    fn shapes_that_cannot_be_committed_to_have_no_cost() {
        let base = BaseCost { multiplied: 1, parameters: 1 };
        let mut wide = shapes(1);
        wide[0].rank = 200;
        assert!(Costs::of(base, &wide, 1).is_err());
    }
}
