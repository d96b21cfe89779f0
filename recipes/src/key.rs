//! A key of a recipe, and whether a run would look at it.

/// A key that a task takes, of some recipes at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TakenKey {
    /// Dotted; that of a table without fixed keys stands for all in it.
    pub(crate) name: &'static str,
    /// Why this recipe's run would not look at it.
    pub(crate) idle: Option<&'static str>,
}

impl TakenKey {
    /// A key of every recipe of a task.
    pub(crate) const fn new(name: &'static str) -> Self {
        Self { name, idle: None }
    }

    /// A key of the recipes for which `holds`; for the others, `rule` says why it is none.
    pub(crate) const fn when(name: &'static str, holds: bool, rule: &'static str) -> Self {
        Self { name, idle: if holds { None } else { Some(rule) } }
    }

    /// Whether a written key is this one or stands in it, or is an empty table that this one could stand in.
    pub(crate) fn holds(&self, written: &str) -> bool {
        let within = |inner: &str, outer| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'));
        written == self.name || within(written, self.name) || within(self.name, written)
    }
}
