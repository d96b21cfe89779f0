//! Names of the bases that ship with ftk.

/// Name of the base that ships with ftk.
pub const VILLAGE: &str = "village";
/// Name of the base of markets that ships with ftk.
pub const MARKET: &str = "market";
/// Names of all bases that ship with ftk.
pub const SHIPPED: [&str; 2] = [VILLAGE, MARKET];
