//! The state of a stream of ratings at a moment as a tree with one root, and the part of it that scores of pairs depend on,
//! opened against that root: what a proof about pairs carries instead of all ratings. `circuits/STATEMENT.md`, section 13,
//! says what is checked and why that is enough. What is known of users and pairs is computed from the opened ratings, as it
//! is from all of them ([`super::stream`]).

use std::collections::BTreeSet;

use blake3::{Hash, Hasher};

use super::bytes::{BrokenBytes, ByteReader, ByteWriter};
use super::leaf::{Carries, Edge, Frame, Incident, NodeLeaf};
use super::merkle::MerkleTree;
use super::pairs::{KnownPair, neighbours};
use super::part::{self, PartError};
use super::stream::{RatingTotals, StreamState};

/// First bytes: a name and a version.
const MAGIC: &[u8; 16] = b"ftk state part\0\x01";
const ROOT: &str = "ftk state 1 root";
/// How much more memory a part takes than bytes, while features are computed: a rating of 17 bytes is held twice as an edge
/// of 24, twice in lists of users of some hundred, and once in a table.
pub const EXPANSION: u64 = 32;

/// What a root says beside its leaves.
#[derive(Clone, Copy, Debug, PartialEq)]
struct StateMoment {
    time: f64,
    totals: RatingTotals,
}

impl StateMoment {
    fn write(&self, out: &mut ByteWriter) {
        let RatingTotals { ratings, sum, negative } = self.totals;
        out.f64(self.time);
        out.0.extend(ratings.to_le_bytes());
        out.f64(sum);
        out.0.extend(negative.to_le_bytes());
    }

    fn read(input: &mut ByteReader<'_>) -> Result<Self, BrokenBytes> {
        let time = input.f64()?;
        let ratings = u64::from_le_bytes(input.array()?);
        let sum = input.f64()?;
        let negative = u64::from_le_bytes(input.array()?);
        Ok(Self { time, totals: RatingTotals { ratings, sum, negative } })
    }

    fn root(&self, graph: &Hash) -> Hash {
        let mut out = ByteWriter::default();
        self.write(&mut out);
        Hasher::new_derive_key(ROOT).update(&out.0).update(graph.as_bytes()).finalize()
    }
}

/// The graph of a state: ratings between so many users.
fn frame(users: u32) -> Frame {
    let carries = Carries { weight: true, time: true, direction: true };
    Frame { nodes: users, width: 0, carries, timed: false }
}

/// All ratings that are known at a moment.
#[derive(Clone, Debug)]
pub struct KnownRatings {
    moment: StateMoment,
    /// Of every user who gave or received one, in the order of names.
    leaves: Vec<NodeLeaf>,
}

impl KnownRatings {
    /// What is known at a moment of these ratings, none of which is there twice; `name` is what a user is called, no two of
    /// them alike. `None` if there are no ratings.
    pub fn new(time: f64, ratings: &[Edge], name: impl Fn(u32) -> String) -> Option<Self> {
        let ends: BTreeSet<u32> = ratings.iter().flat_map(|edge| [edge.source, edge.target]).collect();
        let mut named: Vec<(String, u32)> = ends.iter().map(|&end| (name(end), end)).collect();
        named.sort_unstable();
        let mut numbers: Vec<(u32, u32)> = named.iter().zip(0..).map(|((_, end), number)| (*end, number)).collect();
        numbers.sort_unstable();
        let number = |end: u32| numbers[numbers.partition_point(|(other, _)| *other < end)].1;
        let leaf =
            |(node, (name, _))| NodeLeaf { node, name, time: None, degree: 0, edges: Vec::new(), features: Vec::new() };
        let mut leaves: Vec<NodeLeaf> = (0..).zip(named).map(leaf).collect();
        for &Edge { source, target, weight, time } in ratings {
            let (source, target) = (number(source), number(target));
            leaves[source as usize].edges.push(Incident { other: target, sends: true, weight, time });
            leaves[target as usize].edges.push(Incident { other: source, sends: false, weight, time });
        }
        for leaf in &mut leaves {
            leaf.edges.sort_by(Incident::order);
            leaf.degree = leaf.edges.len() as u32;
        }
        if leaves.is_empty() {
            return None;
        }
        let totals = RatingTotals::of(&ratings_of(&leaves));
        Some(Self { moment: StateMoment { time, totals }, leaves })
    }

    /// The root of the state.
    pub fn root(&self) -> Hash {
        let frame = frame(self.leaves.len() as u32);
        let tree = MerkleTree::new(self.leaves.iter().map(|leaf| leaf.hash(&frame)).collect());
        self.moment.root(&frame.root(&tree.top()))
    }

    /// What is known of each pair of users by their names.
    pub fn pairs(&self, asked: &[[String; 2]]) -> Vec<KnownPair> {
        known(&self.leaves, &self.moment, asked)
    }

    /// Opens what scores of these pairs depend on.
    pub fn open(&self, asked: &[[String; 2]]) -> StatePart {
        let users = self.leaves.len() as u32;
        let replayed = ReplayedRatings::of(&self.leaves, self.moment.totals);
        let reached = reach(&self.leaves, users, &replayed, asked);
        let reached = reached.expect("where all users are opened, each is there or has neighbours by name");
        let (members, partners) = part::open(&frame(users), &self.leaves, reached.into_iter());
        StatePart { moment: self.moment, users, members, partners }
    }
}

/// Some users of a state with all their ratings.
#[derive(Clone, Debug, PartialEq)]
pub struct StatePart {
    moment: StateMoment,
    users: u32,
    /// In rising order of numbers.
    members: Vec<NodeLeaf>,
    /// What leads from the members to the root.
    partners: Vec<Hash>,
}

impl StatePart {
    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = ByteWriter(MAGIC.to_vec());
        self.moment.write(&mut out);
        out.u32(self.users);
        part::write(&frame(self.users), &self.members, &self.partners, &mut out);
        out.0
    }

    /// Reads [`StatePart::encode`]'s bytes; call [`StatePart::check`] before believing them.
    ///
    /// # Errors
    /// [`PartError::Encoding`].
    pub fn decode(bytes: &[u8]) -> Result<Self, PartError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(BrokenBytes("not a part of a state that this version reads"))?;
        let mut input = ByteReader::new(rest);
        let (moment, users) = (StateMoment::read(&mut input)?, input.u32()?);
        if users == 0 {
            return Err(PartError::Encoding("a state of no users"));
        }
        let (members, partners) = part::read(&frame(users), &mut input)?;
        Ok(Self { moment, users, members, partners })
    }

    /// Checks that this is what scores of these pairs depend on in the state with this root: every user whose ratings enter
    /// what is known of them, with all its ratings, and no other.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn check(&self, asked: &[[String; 2]], root: &[u8; 32]) -> Result<(), PartError> {
        let Self { moment, users, members, .. } = self;
        let frame = frame(*users);
        part::check_lists(&frame, members)?;
        if let Some(pair) = members.windows(2).find(|pair| pair[0].name >= pair[1].name) {
            return Err(PartError::Names(pair[1].node));
        }
        beside(members, *users, asked)?;
        if let Some(leaf) = members.iter().find(|leaf| leaf.edges.iter().any(|edge| edge.time > moment.time)) {
            return Err(PartError::Later(leaf.node));
        }
        let reached = reach(members, *users, &ReplayedRatings::of(members, moment.totals), asked)?;
        let found: BTreeSet<u32> = members.iter().map(|leaf| leaf.node).collect();
        if let Some(user) = reached.symmetric_difference(&found).next() {
            return Err(PartError::Coverage(*user));
        }
        part::check_symmetry(&frame, members)?;
        let (opened, RatingTotals { ratings, negative, .. }) = (RatingTotals::of(&ratings_of(members)), moment.totals);
        if negative > ratings || opened.ratings > ratings || opened.negative > negative {
            return Err(PartError::Totals);
        }
        match self.root() {
            Some(found) if found.as_bytes() == root => Ok(()),
            _ => Err(PartError::Root),
        }
    }

    /// The root that its members hang from; `None` if they hang from none.
    pub fn root(&self) -> Option<Hash> {
        Some(self.moment.root(&part::root(&frame(self.users), &self.members, &self.partners)?))
    }

    /// What is known of each pair that it was [`check`](StatePart::check)ed for.
    pub fn pairs(&self, asked: &[[String; 2]]) -> Vec<KnownPair> {
        known(&self.members, &self.moment, asked)
    }

    /// Whether a user of this name is opened; of the ends of pairs that it was [`check`](StatePart::check)ed for, whether any
    /// rating is known of them.
    pub fn knows(&self, name: &str) -> bool {
        by_name(&self.members, name).is_ok()
    }

    /// The moment that it is the state of.
    pub fn time(&self) -> f64 {
        self.moment.time
    }

    /// Ratings that are known then.
    pub fn ratings(&self) -> u64 {
        self.moment.totals.ratings
    }

    /// Users that are opened.
    pub fn members(&self) -> usize {
        self.members.len()
    }
}

/// What is known by leaves, in the order of names, of each pair.
fn known(leaves: &[NodeLeaf], moment: &StateMoment, asked: &[[String; 2]]) -> Vec<KnownPair> {
    let replayed = ReplayedRatings::of(leaves, moment.totals);
    let pair = |ends: &[String; 2]| {
        let [source, target] = replayed.ends(leaves, ends);
        KnownPair::new(&replayed.state, source, target, moment.time)
    };
    asked.iter().map(pair).collect()
}

/// The place of a user of this name among leaves in the order of names, or the place it would have.
fn by_name(leaves: &[NodeLeaf], name: &str) -> Result<usize, usize> {
    leaves.binary_search_by(|leaf| leaf.name.as_str().cmp(name))
}

/// The leaves of the ends of pairs, and of whom between ends would be that are not there.
///
/// # Errors
/// [`PartError::Stranger`].
fn beside(leaves: &[NodeLeaf], users: u32, asked: &[[String; 2]]) -> Result<BTreeSet<u32>, PartError> {
    let mut found = BTreeSet::new();
    for name in asked.as_flattened() {
        match by_name(leaves, name) {
            Ok(at) => found.extend([leaves[at].node]),
            Err(at) => {
                let before = at.checked_sub(1).map(|before| leaves[before].node);
                let after = leaves.get(at).map(|leaf| leaf.node);
                if before.map_or(Some(0), |before| before.checked_add(1)) != Some(after.unwrap_or(users)) {
                    return Err(PartError::Stranger(name.clone()));
                }
                found.extend([before, after].into_iter().flatten());
            }
        }
    }
    Ok(found)
}

/// The users whose ratings enter what is known of pairs, as far as leaves say it.
///
/// # Errors
/// [`PartError::Stranger`].
fn reach(
    leaves: &[NodeLeaf],
    users: u32,
    replayed: &ReplayedRatings,
    asked: &[[String; 2]],
) -> Result<BTreeSet<u32>, PartError> {
    let mut found = beside(leaves, users, asked)?;
    for ends in asked {
        let ends = replayed.ends(leaves, ends);
        let near = ends.into_iter().flat_map(|end| neighbours(&replayed.state, end));
        let near: Vec<u32> = near.chain(replayed.state.latest_raters(ends[1])).collect();
        found.extend(near.into_iter().map(|user| replayed.users[user as usize]));
    }
    Ok(found)
}

/// The ratings that leaves list, each once, in the order of time, source, target and weight.
fn ratings_of(leaves: &[NodeLeaf]) -> Vec<Edge> {
    let edge = |node: u32, Incident { other, sends, weight, time }: Incident| {
        let (source, target) = if sends { (node, other) } else { (other, node) };
        Edge { source, target, weight, time }
    };
    let all = |leaf: &NodeLeaf| leaf.edges.iter().map(|it| edge(leaf.node, *it)).collect::<Vec<_>>();
    let mut edges: Vec<Edge> = leaves.iter().flat_map(all).collect();
    edges.sort_unstable_by(|a, b| {
        let ends = (a.source, a.target).cmp(&(b.source, b.target));
        a.time.total_cmp(&b.time).then(ends).then(a.weight.total_cmp(&b.weight))
    });
    edges.dedup();
    edges
}

/// The state that all ratings of some leaves lead to, by users of its own numbers, in the order of theirs.
struct ReplayedRatings {
    state: StreamState,
    /// Numbers of all that the leaves name; behind them comes a user who has no ratings.
    users: Vec<u32>,
}

impl ReplayedRatings {
    /// Takes in every rating once; all there are come to the totals.
    fn of(leaves: &[NodeLeaf], totals: RatingTotals) -> Self {
        let edges = ratings_of(leaves);
        let mut users: Vec<u32> = edges.iter().flat_map(|edge| [edge.source, edge.target]).collect();
        users.extend(leaves.iter().map(|leaf| leaf.node));
        users.sort_unstable();
        users.dedup();
        let mut state = StreamState::new(users.len() + 1);
        for edge in edges {
            let [source, target] =
                [edge.source, edge.target].map(|end| users.partition_point(|user| *user < end) as u32);
            state.take(&Edge { source, target, ..edge });
        }
        Self { state: state.of_all(totals), users }
    }

    /// The ends of a pair; the one without ratings in the place of who is not there.
    fn ends(&self, leaves: &[NodeLeaf], names: &[String; 2]) -> [u32; 2] {
        names.each_ref().map(|name| match by_name(leaves, name) {
            Ok(at) => self.users.partition_point(|user| *user < leaves[at].node) as u32,
            Err(_) => self.users.len() as u32,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::pairs::MOST_USERS;
    use super::*;

    const DAY: f64 = 86_400.0;

    /// Ratings among thirty users, some of one moment, some of a pair that had one before; of user 0 and by user 1 many.
    fn ratings() -> Vec<Edge> {
        let mut all = Vec::new();
        for at in 0..240u32 {
            let (source, target) = if at % 3 == 0 { (at % 29 + 1, 0) } else { (at * 7 % 30, (at * 11 + 3) % 30) };
            let weight = [3.0, -5.0, 1.0, 10.0, 2.5][at as usize % 5];
            let time = f64::from(at / 2) * DAY / 3.0;
            if source != target {
                all.push(Edge { source, target, weight, time });
            }
            if at % 4 == 0 {
                all.push(Edge { source: 1, target: at % 28 + 2, weight: -weight, time });
            }
        }
        all
    }

    fn name(user: u32) -> String {
        format!("user {user}")
    }

    fn known() -> KnownRatings {
        KnownRatings::new(50.0 * DAY, &ratings(), name).unwrap()
    }

    fn named(source: &str, target: &str) -> [String; 2] {
        [source.to_owned(), target.to_owned()]
    }

    /// Users with many ratings and with few, one who is not there at either end, both, and of names before and behind all.
    fn asked() -> Vec<[String; 2]> {
        let users = [("user 1", "user 0"), ("user 7", "user 12"), ("user 12", "user 7"), ("user 5", "user 55")];
        let strangers = [("a", "user 3"), ("user 3", "z"), ("user 1x", "user 2x")];
        users.into_iter().chain(strangers).map(|(source, target)| named(source, target)).collect()
    }

    /// What is opened of a state says of its pairs what all ratings say, and what the session that learns them says of the
    /// same moment.
    #[test]
    fn a_part_knows_what_the_whole_state_knows() {
        let (known, ratings) = (known(), ratings());
        let mut all = StreamState::new(60);
        // Names follow each other otherwise than numbers, which is seen in what is of one moment.
        let numbers: Vec<u32> = known.leaves.iter().map(|leaf| leaf.name[5..].parse().unwrap()).collect();
        let place = |user: u32| numbers.iter().position(|number| *number == user).unwrap_or(59) as u32;
        let mut placed: Vec<Edge> = ratings
            .iter()
            .map(|edge| Edge { source: place(edge.source), target: place(edge.target), ..*edge })
            .collect();
        placed.sort_by(|a, b| a.time.total_cmp(&b.time).then((a.source, a.target).cmp(&(b.source, b.target))));
        placed.iter().for_each(|edge| all.take(edge));
        let number =
            |name: &String| name.strip_prefix("user ").and_then(|number| number.parse().ok()).map_or(59, place);
        for pair in asked() {
            let [source, target] = pair.each_ref().map(number);
            let truth = [KnownPair::new(&all, source, target, 50.0 * DAY)];
            let pair = [pair];
            assert_eq!(known.open(&pair).pairs(&pair), truth, "{pair:?}");
            assert_eq!(known.pairs(&pair), truth);
        }
        let together = known.open(&asked());
        assert_eq!(together.pairs(&asked()), known.pairs(&asked()));
        let users: Vec<usize> = known.pairs(&asked()).iter().map(KnownPair::users).collect();
        assert!(users.iter().all(|count| (2..=MOST_USERS).contains(count)), "{users:?}");
        assert!(users[0] > MOST_USERS / 2 && users.contains(&2), "{users:?}");
    }

    /// What `tests/reference/state_features.py` makes of the statement's words, to the bit.
    #[test]
    fn features_are_those_of_the_statement() {
        let told: serde_json::Value = serde_json::from_str(include_str!("state_features.json")).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let array = |value: &serde_json::Value| value.as_array().unwrap().clone();
        let mut names: Vec<String> = Vec::new();
        let mut number = |name: String| match names.iter().position(|known| *known == name) {
            Some(number) => number as u32,
            None => {
                names.push(name);
                names.len() as u32 - 1
            }
        };
        let ratings: Vec<Edge> = array(&told["ratings"])
            .iter()
            .map(|rating| Edge {
                source: number(text(&rating[0])),
                target: number(text(&rating[1])),
                weight: rating[2].as_f64().unwrap() as f32,
                time: rating[3].as_f64().unwrap(),
            })
            .collect();
        let known =
            KnownRatings::new(told["time"].as_f64().unwrap(), &ratings, |user| names[user as usize].clone()).unwrap();
        let replayed = ReplayedRatings::of(&known.leaves, known.moment.totals);
        let near = |end: u32| -> Vec<String> {
            let near = neighbours(&replayed.state, end).into_iter();
            near.map(|user| known.leaves[replayed.users[user as usize] as usize].name.clone()).collect()
        };
        for pair in array(&told["pairs"]) {
            let ends = named(&text(&pair["source"]), &text(&pair["target"]));
            let lists = replayed.ends(&known.leaves, &ends).map(near);
            let expected = [0, 1].map(|end| array(&pair["neighbours"][end]).iter().map(text).collect::<Vec<_>>());
            assert_eq!(lists, expected, "{ends:?}");
            let row = known.pairs(std::slice::from_ref(&ends))[0].row();
            // A zero has no sign in what is proved.
            let bytes = row.iter().flat_map(|value| (value + 0.0).to_le_bytes());
            let bits: String = bytes.map(|byte| format!("{byte:02x}")).collect();
            let expected = ["source_row", "target_row", "pair_row"].map(|name| text(&pair[name])).concat();
            assert_eq!(bits, expected, "{ends:?}");
        }
    }

    /// The root is of the moment, the ratings and the names, whatever numbers users had and whichever users gave none.
    #[test]
    fn a_state_is_its_ratings_and_no_file() {
        let (known, root) = (known(), known().root());
        let renumbered: Vec<Edge> = ratings()
            .into_iter()
            .rev()
            .map(|edge| Edge { source: 100 - edge.source, target: 100 - edge.target, ..edge })
            .collect();
        let again = KnownRatings::new(50.0 * DAY, &renumbered, |user| name(100 - user)).unwrap();
        assert_eq!(again.root(), root);
        let later = KnownRatings::new(51.0 * DAY, &ratings(), name).unwrap();
        let other = KnownRatings::new(50.0 * DAY, &ratings(), |user| format!("User {user}")).unwrap();
        let mut fewer = ratings();
        fewer.pop();
        let fewer = KnownRatings::new(50.0 * DAY, &fewer, name).unwrap();
        let mut changed = known.clone();
        let mut roots = vec![root, later.root(), other.root(), fewer.root()];
        changed.moment.totals.ratings += 1;
        roots.push(changed.root());
        changed.moment.totals = RatingTotals { sum: known.moment.totals.sum + 1.0, ..known.moment.totals };
        roots.push(changed.root());
        changed.moment.totals = RatingTotals { negative: known.moment.totals.negative + 1, ..known.moment.totals };
        roots.push(changed.root());
        roots.sort_unstable_by_key(|root| *root.as_bytes());
        roots.dedup();
        assert_eq!(roots.len(), 7);
        assert!(KnownRatings::new(0.0, &[], name).is_none());
    }

    #[test]
    fn a_part_is_read_as_it_was_written_and_checks() {
        let known = known();
        let root = known.root();
        for asked in asked().iter().map(std::slice::from_ref).chain([&asked()[..]]) {
            let part = known.open(asked);
            let bytes = part.encode();
            let read = StatePart::decode(&bytes).unwrap();
            assert_eq!(read, part);
            assert_eq!(read.check(asked, root.as_bytes()), Ok(()), "{asked:?}");
            for cut in (0..bytes.len()).step_by(7).chain([bytes.len() - 1]) {
                assert!(StatePart::decode(&bytes[..cut]).is_err());
            }
            assert!(StatePart::decode(&[&bytes[..], &[0]].concat()).is_err());
        }
        assert!(known.open(&asked()[1..]).members() < known.leaves.len());
        let bytes = known.open(&asked()[..1]).encode();
        let put = |at: usize, with: &[u8]| {
            let mut edited = bytes.clone();
            edited[at..at + with.len()].copy_from_slice(with);
            StatePart::decode(&edited).unwrap_err()
        };
        let wrong = PartError::Encoding;
        assert_eq!(put(4, b"g"), wrong("not a part of a state that this version reads"));
        assert_eq!(put(16, &f64::INFINITY.to_le_bytes()), wrong("a number is not finite, or a zero has a sign"));
        assert_eq!(put(32, &(-0.0f64).to_le_bytes()), wrong("a number is not finite, or a zero has a sign"));
        assert_eq!(put(48, &[0; 4]), wrong("a state of no users"));
        assert_eq!(put(52, &[255; 4]), wrong("ends too early"));
    }

    #[test]
    fn forged_parts_are_refused_each_by_its_own_check() {
        use PartError::*;
        let (known, pair) = (known(), [named("user 7", "user 12")]);
        let (honest, root) = (known.open(&pair), known.root());
        let node = |name: &str| known.leaves[by_name(&known.leaves, name).unwrap()].node;
        let at = |name: &str| part::place(&honest.members, node(name)).unwrap();
        let (source, target) = (at("user 7"), at("user 12"));
        let refused = |change: &dyn Fn(&mut StatePart)| {
            let mut part = honest.clone();
            change(&mut part);
            // What is sent is read first.
            StatePart::decode(&part.encode()).unwrap().check(&pair, root.as_bytes()).unwrap_err()
        };
        let degree = honest.members[source].degree;
        let own = node("user 7");
        let listed = degree as usize - 1;
        assert_eq!(refused(&|part| part.members[source].edges.truncate(listed)), Degree { node: own, degree, listed });
        assert_eq!(refused(&|part| part.members[source].edges.reverse()), Order(own));
        let nobody = known.leaves.len() as u32;
        let last = listed;
        assert_eq!(refused(&|part| part.members[source].edges[last].other = nobody), Edge { node: own, other: nobody });
        assert_eq!(refused(&|part| part.members.swap(0, 1)), Coverage(honest.members[0].node));
        // Names that do not rise, and one that hides who is asked about.
        let renamed = |part: &mut StatePart| part.members[target].name.insert(0, 'v');
        assert_eq!(refused(&renamed), Names(honest.members[target + 1].node));
        let renamed = |part: &mut StatePart| part.members[target].name.push('x');
        assert_eq!(refused(&renamed), Stranger("user 12".to_owned()));
        // Whoever is not opened is no stranger.
        assert_eq!(refused(&|part| drop(part.members.remove(source))), Stranger("user 7".to_owned()));
        assert_eq!(refused(&|part| drop(part.members.remove(target))), Stranger("user 12".to_owned()));
        let latest = honest.members.iter().flat_map(|leaf| &leaf.edges).map(|edge| edge.time).fold(0.0, f64::max);
        assert_eq!(refused(&|part| part.moment.time = latest), Root);
        assert!(matches!(refused(&|part| part.moment.time = latest - 1.0), Later(_)));
        // Everybody who is opened is needed, and nobody else is opened.
        for gone in (0..honest.members.len()).filter(|&at| at != source && at != target) {
            let user = honest.members[gone].node;
            assert_eq!(refused(&|part| drop(part.members.remove(gone))), Coverage(user));
        }
        let more = known.open(&asked());
        let one = more.members.iter().find(|leaf| part::place(&honest.members, leaf.node).is_none()).unwrap();
        let add = |part: &mut StatePart| {
            part.members.push(one.clone());
            part.members.sort_by_key(|leaf| leaf.node);
        };
        assert_eq!(refused(&add), Coverage(one.node));
        // A rating that is of another weight to its other end.
        let opened =
            honest.members[source].edges.iter().position(|edge| part::place(&honest.members, edge.other).is_some());
        let opened = opened.unwrap();
        let there = honest.members[source].edges[opened].other;
        let heavier = |part: &mut StatePart| part.members[source].edges[opened].weight += 0.125;
        assert_eq!(refused(&heavier), Symmetry { node: own.min(there), other: own.max(there) });
        // One that is turned round at one of its ends; where that changes who is to be opened, that is seen first.
        let both = |other: u32| part::place(&honest.members, other).is_some();
        let places = honest.members.iter().enumerate().flat_map(|(member, leaf)| {
            leaf.edges.iter().enumerate().filter(|(_, edge)| both(edge.other)).map(move |(edge, _)| (member, edge))
        });
        let turned = places.map(|(member, edge)| refused(&|part| part.members[member].edges[edge].sends ^= true));
        assert!(turned.collect::<Vec<_>>().iter().any(|refusal| matches!(refusal, Symmetry { .. })));
        for change in [
            &(|part: &mut StatePart| part.moment.totals.ratings = 1) as &dyn Fn(&mut StatePart),
            &|part| part.moment.totals.negative = 0,
            &|part| part.moment.totals.negative = part.moment.totals.ratings + 1,
        ] {
            assert_eq!(refused(change), Totals);
        }
        for change in [
            &(|part: &mut StatePart| part.moment.totals.ratings += 1) as &dyn Fn(&mut StatePart),
            &|part| part.moment.totals.sum += 1.0,
            &|part| part.moment.totals.negative += 1,
            &|part| part.users += 1,
            &|part| part.partners.truncate(1),
            &|part| part.partners.push(part.partners[0]),
            &|part| part.partners.swap(0, 1),
            &|part| part.members[0].name.insert(0, ' '),
        ] {
            assert_eq!(refused(change), Root);
        }
    }

    /// Somebody of bad repute is no newcomer: between the two that are next to each other by name there is nobody.
    #[test]
    fn nobody_who_is_there_passes_for_a_stranger() {
        let known = known();
        let root = known.root();
        let stranger = [named("user 3", "user 2x")];
        let honest = known.open(&stranger);
        assert_eq!(honest.check(&stranger, root.as_bytes()), Ok(()));
        // The same opened for somebody who is there.
        let pair = [named("user 3", "user 20")];
        assert_eq!(honest.check(&pair, root.as_bytes()), Err(PartError::Stranger("user 20".to_owned())));
        assert!(honest.knows("user 3") && !honest.knows("user 2x"));
        let mut without = known.open(&pair);
        let gone = by_name(&without.members, "user 20").unwrap();
        without.members.remove(gone);
        assert_eq!(without.check(&pair, root.as_bytes()), Err(PartError::Stranger("user 20".to_owned())));
        // No number is behind the last one.
        let mut beyond = known.open(&pair);
        beyond.members.last_mut().unwrap().node = u32::MAX;
        let nobody = [named("user 3", "z")];
        assert_eq!(beyond.check(&nobody, root.as_bytes()), Err(PartError::Stranger("z".to_owned())));
        // Behind the last, unless fewer users are claimed.
        let last = [named("user 3", "user 9z")];
        let mut cut = known.open(&last);
        assert_eq!(cut.check(&last, root.as_bytes()), Ok(()));
        let end = [named("user 3", &known.leaves[known.leaves.len() - 1].name)];
        cut.members.pop();
        assert_eq!(cut.check(&end, root.as_bytes()), Err(PartError::Stranger(end[0][1].clone())));
    }
}
