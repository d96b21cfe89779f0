//! Reading a recipe: the file or what ships, the settings laid over it, and its paths.

use std::borrow::Cow;
use std::path::Path;

use ftk_adapters::foreign;

use crate::builtin::BUILTIN;
use crate::error::RecipeError;
use crate::recipe::Recipe;
use crate::shipped;
use crate::source::{Override, RecipeSource};

impl Recipe {
    /// Reads a recipe file, or where there is none the recipe that ships under this name. Paths come back resolved
    /// against the file's folder; by name, against the current folder, but for rows that ship, which are put into the
    /// cache. With other rows to train on than those that ship, held-out ones that ship are left out.
    ///
    /// # Errors
    /// The file cannot be read, is not TOML, has an unknown key or a value out of range; the error
    /// names path, line and key.
    pub fn load(path: &Path) -> Result<Self, RecipeError> {
        Self::load_with(path, &[])
    }

    /// [`Recipe::load`] with settings `key=value` laid over the file as if they stood in it: the key dotted, the
    /// value TOML or a bare word. A path in them starts at the current folder, where it was typed.
    ///
    /// # Errors
    /// As [`Recipe::load`]; where a setting is at fault, the error names it as `--set key`.
    pub fn load_with(path: &Path, settings: &[String]) -> Result<Self, RecipeError> {
        Self::load_from(path, settings, Path::new(""))
    }

    /// [`Recipe::load_with`] where paths in settings start at the folder `typed`.
    ///
    /// # Errors
    /// As [`Recipe::load_with`].
    pub fn load_from(path: &Path, settings: &[String], typed: &Path) -> Result<Self, RecipeError> {
        let builtin = shipped::named(path);
        let text = match builtin {
            Some(builtin) => Cow::Borrowed(builtin.text),
            None => foreign::read_text(path, foreign::DOCUMENT)
                .map_err(|error| {
                    RecipeError::unreadable("recipe", path, &error, shipped::meant("recipe", BUILTIN, path))
                })?
                .into(),
        };
        let overrides = Override::read(settings, text.len())?;
        let source = RecipeSource::new(path, &text, &overrides)?;
        let mut recipe = Self::checked(&source)?;
        let folder = path.parent().filter(|_| builtin.is_none()).unwrap_or(Path::new(""));
        recipe.resolve(|key| if source.is_typed(key) { typed } else { folder });
        if let Some(builtin) = builtin {
            // Held-out rows that ship say nothing about a run on others.
            if source.is_typed("data.train") && !source.is_typed("data.held_out") {
                recipe.data.held_out = None;
            }
            for (_, path) in recipe.rows_mut().filter(|(key, _)| !source.is_typed(key)) {
                if let Some(unpacked) = builtin.unpack(path)? {
                    *path = unpacked;
                }
            }
        }
        Ok(recipe)
    }

    /// Reads a recipe from text; `path` only names it in errors and paths stay as written.
    ///
    /// # Errors
    /// As [`Recipe::load`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, RecipeError> {
        Self::parse_with(path, text, &[])
    }

    /// [`Recipe::parse`] with settings laid over the text as in [`Recipe::load_with`].
    ///
    /// # Errors
    /// As [`Recipe::load_with`].
    pub fn parse_with(path: &Path, text: &str, settings: &[String]) -> Result<Self, RecipeError> {
        let overrides = Override::read(settings, text.len())?;
        Self::checked(&RecipeSource::new(path, text, &overrides)?)
    }

    fn checked(source: &RecipeSource<'_>) -> Result<Self, RecipeError> {
        let recipe: Self = source.read()?;
        recipe.check(source)?;
        Ok(recipe)
    }
}
