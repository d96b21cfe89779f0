//! What a file says of its edges: which are learnt from, validated and tested on.

use std::fs;
use std::path::PathBuf;

use super::super::npz::tests::zip;
use super::*;

/// Of Python's pickle (protocol 2) and NumPy 2.4, laid out as `torch.save` did before 1.6: `edge` [[0, 3], [1, 2]],
/// `edge_neg`, `weight` [2, 200], `year` 2018.
const VALID: &[u8] = include_bytes!("valid.pt");

/// A pickle of whole numbers by their names, of arrays of one axis or two, as NumPy has them pickled.
fn pickled(arrays: &[(&str, &[usize], &[i64])]) -> Vec<u8> {
    let text = |text: &str| [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat();
    let bytes = |bytes: &[u8]| {
        let characters: String = bytes.iter().map(|&byte| char::from(byte)).collect();
        [b"c_codecs\nencode\n".to_vec(), text(&characters), text("latin1"), b"\x86R".to_vec()].concat()
    };
    let mut out = b"\x80\x02}(".to_vec();
    for (name, shape, values) in arrays {
        out.extend(text(name));
        out.extend(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85");
        out.extend([bytes(b"b"), b"\x87R(K\x01".to_vec()].concat());
        shape.iter().for_each(|&length| out.extend([b'K', length as u8]));
        out.push(0x84 + shape.len() as u8);
        out.extend([b"cnumpy\ndtype\n".to_vec(), text("i8"), b"\x89\x88\x87R(K\x03".to_vec(), text("<")].concat());
        out.extend(b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89");
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        out.extend([bytes(&data), b"tb".to_vec()].concat());
    }
    out.extend(b"u.");
    out
}

/// In an archive, as `torch.save` writes since 1.6.
fn packed(pickle: Vec<u8>) -> Vec<u8> {
    zip(&[("train/data.pkl", pickle), ("train/version", b"3\n".to_vec())])
}

/// Five nodes; 0 and 1 are joined to learn from, and again to test on.
fn split() -> [(&'static str, Vec<u8>); 6] {
    let edges = |pairs: &[i64], year: i64| {
        let years = vec![year; pairs.len() / 2];
        packed(pickled(&[
            ("edge", &[pairs.len() / 2, 2], pairs),
            ("weight", &[years.len()], &vec![1; years.len()]),
            ("year", &[years.len()], &years),
        ]))
    };
    [
        ("raw/num-node-list.csv", b"5\n".to_vec()),
        ("raw/edge.csv", b"0,1\n1,4\n".to_vec()),
        ("raw/edge_weight.csv", b"1\n3\n".to_vec()),
        ("split/time/train.pt", edges(&[4, 1, 0, 1], 2017)),
        ("split/time/valid.pt", VALID.to_vec()),
        ("split/time/test.pt", edges(&[1, 0, 3, 4], 2019)),
    ]
}

struct Benchmark(TempDir);

impl Benchmark {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        split().iter().for_each(|(name, bytes)| folder.write(name, bytes));
        folder.write("raw/edge_year.csv", b"2016\n2017\n");
        folder
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn read(&self) -> Result<(Graph, ImportFindings), String> {
        let read = import(&Origin::Path(self.0.path().to_owned()));
        read.map_err(|error| error.to_string().replace(self.0.path().to_str().unwrap(), "."))
    }

    /// What is said of a folder with other bytes in the place of a file.
    fn refused(&self, name: &str, bytes: &[u8]) -> String {
        let before = fs::read(self.0.path().join(name)).ok();
        self.write(name, bytes);
        let error = self.read().unwrap_err();
        match before {
            Some(before) => self.write(name, &before),
            None => fs::remove_file(self.0.path().join(name)).unwrap(),
        }
        error
    }
}

#[test]
fn splits_of_links_are_read_as_the_benchmark_publishes_them() {
    let folder = Benchmark::new();
    let (graph, found) = folder.read().unwrap();
    assert_eq!(graph.carries, Carries { weight: true, time: true, direction: true });
    let edges: Vec<_> = graph.edges.iter().map(|it| (it.source, it.target, it.weight, it.time)).collect();
    let expected = [
        (0, 1, 1.0, 2016.0),
        (0, 3, 2.0, 2018.0),
        (1, 0, 1.0, 2019.0),
        (1, 2, 200.0, 2018.0),
        (1, 4, 3.0, 2017.0),
        (3, 4, 1.0, 2019.0),
    ];
    assert_eq!(edges, expected);
    // 1 to 0 is tested on there, and known from training here: it is learnt from, and said.
    let held_out = [((0, 3), NodeSplit::Validation), ((1, 2), NodeSplit::Validation), ((3, 4), NodeSplit::Test)];
    assert_eq!((graph.held_out.clone(), found.known), (held_out.into(), 1));
    assert!(found.notes().iter().any(|note| note.starts_with("1 edges held out join nodes")), "{:?}", found.notes());
    let read = Graph::from_bytes(Path::new("g"), &graph.to_bytes()).unwrap();
    assert_eq!(read.held_out, graph.held_out);
    // Of sources and targets.
    let [sources, targets] = [[0, 1].as_slice(), &[1, 4]];
    let ends = pickled(&[("source_node", &[2], sources), ("target_node", &[2], targets)]);
    folder.write("split/time/train.pt", &packed(ends.clone()));
    assert_eq!(folder.read().unwrap().0.held_out, graph.held_out);
    assert!(folder.refused("split/time/valid.pt", &VALID[..VALID.len() - 9]).ends_with("ends too early"));
}

#[test]
fn splits_of_links_that_are_something_else_are_refused_by_name() {
    let folder = Benchmark::new();
    let refused = |arrays: &[(&str, &[usize], &[i64])]| folder.refused("split/time/test.pt", &packed(pickled(arrays)));
    let said = |message: &str| format!("./split/time/test.pt: {message}");
    let weights: (&str, &[usize], &[i64]) = ("weight", &[1], &[1]);
    let years: (&str, &[usize], &[i64]) = ("year", &[1], &[2019]);
    let edge: (&str, &[usize], &[i64]) = ("edge", &[1, 2], &[3, 4]);
    assert_eq!(refused(&[edge, weights]), said("does not have one number an edge: year"));
    assert_eq!(refused(&[("edge", &[1, 2], &[3, 5]), weights, years]), said("names no node: 5"));
    assert_eq!(refused(&[("edge", &[1, 2], &[3, -1]), weights, years]), said("names no node: -1"));
    let triples: [(&str, &[usize], &[i64]); 3] = [("head", &[1], &[0]), ("relation", &[1], &[0]), ("tail", &[1], &[1])];
    let none = "holds no edge, nor source_node and target_node; beside them: head, relation, tail";
    assert_eq!(refused(&triples), said(none));
    assert_eq!(refused(&[edge, weights, years, triples[1]]), said("holds what is not read of a split: relation"));
    let flat = "edge is not the numbers of nodes, but of shape [2]";
    assert_eq!(refused(&[("edge", &[2], &[3, 4]), weights, years]), said(flat));
    let other = packed(pickled(&[("edge", &[1, 2], &[0, 1]), weights, years]));
    let another = "./split/time/train.pt: its edges are not those of raw/edge.csv.gz";
    assert_eq!(folder.refused("split/time/train.pt", &other), another);
    let short = folder.refused("raw/edge_weight.csv", b"1\n");
    assert_eq!(short, "./raw: edge_weight.csv.gz has 1 rows for 2 edges");
    let missing = Benchmark::new();
    fs::remove_file(missing.0.path().join("split/time/test.pt")).unwrap();
    let error = missing.read().unwrap_err();
    assert!(error.contains("./split/time/test.pt"), "{error}");
}

#[test]
fn pickles_are_followed_no_further_than_arrays_go() {
    let folder = Benchmark::new();
    let refused = |pickle: &[u8]| {
        let error = folder.refused("split/time/test.pt", &packed(pickle.to_vec()));
        let start = "./split/time/test.pt: not NumPy's arrays as torch.save writes them: ";
        error.strip_prefix(start).unwrap_or_else(|| panic!("{error}")).to_owned()
    };
    // What would run a command, if anything were called.
    assert_eq!(refused(b"\x80\x02cos\nsystem\nX\x02\0\0\0ls\x85R."), "calls what is not known: os system");
    assert_eq!(refused(b"\x80\x02X\x01\0\0\0a."), "is no dictionary");
    assert_eq!(refused(b"\x80\x02}X\x01\0\0\0aK\x01s."), "is no array: a");
    assert_eq!(refused(b"\x80\x02}X\x01\0\0\0aX\x09\0\0\0as"), "ends too early");
    assert_eq!(refused(b"\x80\x02i"), "holds an instruction that is not followed: 0x69");
    assert_eq!(refused(b"\x80\x02}q\0h\0."), "comes back to what was left open");
    assert_eq!(refused(b"\x80\x02K\0\x85\x85\x85."), "is nested too deeply");
    assert_eq!(refused(b"\x80\x02u."), "takes what is not there");
    let whole = pickled(&[("edge", &[1, 2], &[3, 4]), ("weight", &[1], &[1]), ("year", &[1], &[2019])]);
    let changed = |from: &[u8], to: &[u8]| {
        let at = whole.windows(from.len()).position(|bytes| bytes == from).unwrap();
        [&whole[..at], to, &whole[at + from.len()..]].concat()
    };
    assert_eq!(refused(&changed(b"X\x01\0\0\0<", b"X\x01\0\0\0>")), "its order of bytes is not read: >");
    assert_eq!(refused(&changed(b"i8", b"O8")), "holds values of a kind that is not read: <O8");
    assert_eq!(refused(&changed(b"K\x01K\x02\x86", b"K\x02K\x02\x86")), "not a NumPy array, or a damaged one");
    let bare = folder.refused("split/time/test.pt", &whole);
    assert!(bare.ends_with("begins with another mark"), "{bare}");
}

#[test]
fn a_table_of_edges_says_what_each_is_for_and_twins_are_of_the_earliest_part() {
    let folder = tempfile::tempdir().unwrap();
    let read = |text: &str| {
        let path: PathBuf = folder.path().join("e.csv");
        fs::write(&path, text).unwrap();
        let read = import(&Origin::Path(path));
        read.map_err(|error| error.to_string().replace(folder.path().to_str().unwrap(), "."))
    };
    let text = "src,dst,split\na,b,train\nb,c,val\nc,d,test\nb,a,test\nd,d,test\nc,b,test\n";
    let (graph, found) = read(text).unwrap();
    assert_eq!(graph.held_out, [((1, 2), NodeSplit::Validation), ((2, 3), NodeSplit::Test)].into());
    assert_eq!((found.known, found.loops), (2, 1));
    assert_eq!(read(&text.replace("d,d,test", "d,d,")).unwrap_err(), "./e.csv:6:split: must be train, val or test");
    // A file that holds out what is not there is none that ftk wrote.
    let mut other = graph.clone();
    other.held_out.insert((0, 3), NodeSplit::Test);
    let error = Graph::from_bytes(Path::new("g"), &other.to_bytes()).unwrap_err().to_string();
    assert_eq!(error, "g: a pair is held out that no edge joins: 0 and 3");
}

#[test]
fn features_that_edges_make_know_nothing_of_what_is_held_out() {
    let edge = |source, target| Edge { source, target, weight: 1.0, time: 0.0 };
    let edges = vec![edge(0, 1), edge(1, 2), edge(2, 3)];
    let mut whole = Graph { nodes: 4, edges: edges.clone(), ..Graph::empty() };
    whole.held_out = [((1, 2), NodeSplit::Test)].into();
    let mut rest = Graph { nodes: 4, edges: vec![edges[0], edges[2]], ..Graph::empty() };
    profile::describe(&mut whole);
    profile::describe(&mut rest);
    let rows = |graph: &Graph| (0..4).map(|node| graph.features.as_ref().unwrap().row(node)).collect::<Vec<_>>();
    assert_eq!(rows(&whole), rows(&rest));
}
