//! A row as whoever it is opened to gets it, and its digest: the ids of its texts, and which of them are scored.

use serde::{Deserialize, Serialize};

/// What a step learns from a row of text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenedRow {
    /// Its sequences, each of one text or of several that are packed, a text as its ids and whether each is scored. Of a
    /// choice the chosen completion comes first, each behind the prompt.
    pub sequences: Vec<Vec<Vec<(u32, bool)>>>,
    /// Of a completion alone, whether it is wanted; then the second sequence is the prompt with the completion of another
    /// row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<bool>,
}

impl OpenedRow {
    /// Digest of what the row is.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = blake3::Hasher::new_derive_key("ftk row of text");
        for texts in &self.sequences {
            hash.update(&(texts.len() as u64).to_le_bytes());
            for text in texts {
                hash.update(&(text.len() as u64).to_le_bytes());
                for (id, scored) in text {
                    hash.update(&id.to_le_bytes()).update(&[u8::from(*scored)]);
                }
            }
        }
        if let Some(wanted) = self.wanted {
            hash.update(&[u8::from(wanted)]);
        }
        *hash.finalize().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_another_digest_where_anything_of_it_is_another() {
        let row =
            OpenedRow { sequences: vec![vec![vec![(5, false), (6, true)]], vec![vec![(5, false)]]], wanted: None };
        let change = |change: &dyn Fn(&mut OpenedRow)| {
            let mut other = row.clone();
            change(&mut other);
            assert_ne!(other.digest(), row.digest(), "{other:?}");
        };
        change(&|row| row.sequences[0][0][1].0 = 7);
        change(&|row| row.sequences[0][0][0].1 = true);
        change(&|row| row.sequences.swap(0, 1));
        change(&|row| drop(row.sequences.pop()));
        // The same ids, parted otherwise: into two texts that do not see each other, or into other sequences.
        change(&|row| row.sequences[0] = vec![vec![(5, false)], vec![(6, true)]]);
        change(&|row| row.sequences = vec![vec![vec![(5, false)]], vec![vec![(6, true), (5, false)]]]);
        change(&|row| row.wanted = Some(false));
        assert_ne!(
            OpenedRow { wanted: Some(true), ..row.clone() }.digest(),
            OpenedRow { wanted: Some(false), ..row.clone() }.digest()
        );
        let text = serde_json::to_string(&row).unwrap();
        assert_eq!(text, r#"{"sequences":[[[[5,false],[6,true]]],[[[5,false]]]]}"#);
        assert_eq!(serde_json::from_str::<OpenedRow>(&text).unwrap(), row);
    }
}
