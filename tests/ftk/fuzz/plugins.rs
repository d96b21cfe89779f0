//! Files of graphs and markets, and tables of rows in Parquet.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ftk_bases::BaseModel;
use ftk_defi::log::{DecisionLog, LogEntry, LogHeader};
use ftk_defi::plan::{Plan, SHIPPED};
use ftk_defi::{self as defi, Market, MarketFormat};
use ftk_gnn::feedback;
use ftk_gnn::graph::{Edge, Graph};
use ftk_gnn::import::{Origin, import};
use ftk_networks::graphs::neighbourhood::Neighbourhood;
use ftk_networks::graphs::state::{KnownRatings, StatePart};
use ftk_networks::graphs::{GraphNetwork, GraphNetworkKind, Head, MessageKind};
use ftk_proofs::head::{head_bytes, parse_head};
use ftk_recipes::Data;
use ftk_text::load;
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::{Map, Value, json};

use super::{MEGABYTE, fuzz, fuzz_one_in, in_folder};

/// What a column of a Parquet file holds.
enum Column {
    Texts(Vec<&'static str>),
    Integers(Vec<i64>),
    Doubles(Vec<f64>),
}

/// A Parquet file of required columns.
fn table(columns: &[(&str, Column)]) -> Vec<u8> {
    let field = |(name, column): &(&str, Column)| match column {
        Column::Texts(_) => format!("required binary {name} (UTF8);"),
        Column::Integers(_) => format!("required int64 {name};"),
        Column::Doubles(_) => format!("required double {name};"),
    };
    let schema = format!("message schema {{ {} }}", columns.iter().map(field).collect::<String>());
    let schema = Arc::new(parse_message_type(&schema).unwrap());
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(WriterProperties::default())).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for (_, column) in columns {
        let mut place = group.next_column().unwrap().unwrap();
        match column {
            Column::Texts(texts) => {
                let texts: Vec<ByteArray> = texts.iter().map(|text| ByteArray::from(*text)).collect();
                place.typed::<ByteArrayType>().write_batch(&texts, None, None).unwrap();
            }
            Column::Integers(integers) => {
                place.typed::<Int64Type>().write_batch(integers, None, None).unwrap();
            }
            Column::Doubles(doubles) => {
                place.typed::<DoubleType>().write_batch(doubles, None, None).unwrap();
            }
        }
        place.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    bytes
}

#[test]
fn rows_of_parquet() {
    let source = Arc::new(BaseModel::open(Path::new("village")).unwrap());
    let texts = |texts: [&'static str; 2]| Column::Texts(texts.to_vec());
    let seed = table(&[
        ("prompt", texts(["Where is Ada?", "What does Elsa sell?"])),
        ("completion", texts(["At the mill.", "Carpets."])),
        ("n", Column::Integers(vec![1, -1])),
    ]);
    let parse = in_folder(Vec::new(), "rows.parquet", move |folder| {
        let path = folder.join("rows.parquet");
        drop(load::load(&source, &Data::new(path.clone()), load::DatasetKind::Sft, &path));
    });
    fuzz("rows.parquet", &[seed], 64 * MEGABYTE, parse);
}

/// An `.npy` array.
fn array(kind: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let length = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\0", &length[..], header.as_bytes(), data].concat()
}

/// A zip archive of files as they are.
fn archive(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in files {
        let (place, size) = ((bytes.len() as u32).to_le_bytes(), (content.len() as u32).to_le_bytes());
        let name_size = (name.len() as u16).to_le_bytes();
        let about = [&[0; 12][..], &size, &size, &name_size, &[0, 0]].concat();
        bytes.extend([b"PK\x03\x04\x14\0".as_slice(), &about, name.as_bytes(), content].concat());
        directory.extend([b"PK\x01\x02\x14\0\x14\0".as_slice(), &about, &[0; 10], &place, name.as_bytes()].concat());
    }
    let (start, size, count) = (bytes.len() as u32, directory.len() as u32, (files.len() as u16).to_le_bytes());
    bytes.extend(directory);
    bytes.extend([b"PK\x05\x06\0\0\0\0", &count[..], &count].concat());
    bytes.extend([&size.to_le_bytes()[..], &start.to_le_bytes(), &[0, 0]].concat());
    bytes
}

/// Reads a graph from the file of this name.
fn graph(name: &'static str) -> impl Fn(&[u8]) + Send + Sync + 'static {
    in_folder(Vec::new(), name, move |folder| drop(import(&Origin::Path(folder.join(name)))))
}

/// The seed is whole: otherwise only its first mistake would be looked at.
fn whole(name: &str, seed: &[u8]) -> Graph {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, seed).unwrap();
    import(&Origin::Path(path)).unwrap().0
}

#[test]
fn graphs() {
    let nodes = b"id,f0,y,split,f1\nann,1,spam,train,0.5\nbob,0,,,0\ncy,-2,ham,test,1\n".to_vec();
    let edges = b"src,dst,weight,time\ncy,ann,1.5,7\nann,bob,-2,8\nbob,cy,1,9\n".to_vec();
    let tables = |file: &'static str| {
        let (nodes, edges) = (nodes.clone(), edges.clone());
        in_folder(Vec::new(), file, move |folder| {
            for (name, bytes) in [("nodes.csv", &nodes), ("edges.csv", &edges)] {
                if name != file {
                    std::fs::write(folder.join(name), bytes).unwrap();
                }
            }
            drop(import(&Origin::Path(folder.to_owned())));
        })
    };
    fuzz("nodes.csv", std::slice::from_ref(&nodes), 64 * MEGABYTE, tables("nodes.csv"));
    fuzz("edges.csv", std::slice::from_ref(&edges), 64 * MEGABYTE, tables("edges.csv"));
    let integers = |values: [i64; 3]| Column::Integers(values.to_vec());
    let weights = Column::Doubles(vec![1.0, -2.0, 0.5]);
    let rated = table(&[("src", integers([0, 1, 2])), ("dst", integers([1, 2, 0])), ("weight", weights)]);
    whole("edges.parquet", &rated);
    fuzz("edges.parquet", &[rated], 64 * MEGABYTE, graph("edges.parquet"));

    let longs = |values: &[i64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let floats = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let index = ("edge_index.npy", array("<i8", "(2, 4)", &longs(&[0, 1, 1, 2, 1, 0, 2, 1])));
    let seeds = [
        archive(std::slice::from_ref(&index)),
        archive(&[
            index,
            ("x.npy", array("<f4", "(3, 2)", &floats(&[1.0, 0.0, 0.0, 0.0, 0.0, 3.0]))),
            ("y.npy", array("<i8", "(3,)", &longs(&[1, -1, 0]))),
            ("train_mask.npy", array("|b1", "(3,)", &[1, 0, 0])),
            ("edge_attr.npy", array("<f4", "(4,)", &floats(&[1.0; 4]))),
        ]),
    ];
    seeds.iter().for_each(|seed| drop(whole("g.npz", seed)));
    let rows = archive(&[
        ("adj_data.npy", array("<f4", "(3,)", &floats(&[1.0; 3]))),
        ("adj_indices.npy", array("<i8", "(3,)", &longs(&[2, 0, 2]))),
        ("adj_indptr.npy", array("<i8", "(4,)", &longs(&[0, 1, 3, 3]))),
        ("adj_shape.npy", array("<i8", "(2,)", &longs(&[3, 3]))),
        ("attr_data.npy", array("<f4", "(2,)", &floats(&[0.5, 2.0]))),
        ("attr_indices.npy", array("<i8", "(2,)", &longs(&[1, 0]))),
        ("attr_indptr.npy", array("<i8", "(4,)", &longs(&[0, 1, 1, 2]))),
        ("attr_shape.npy", array("<i8", "(2,)", &longs(&[3, 2]))),
        ("labels.npy", array("<i8", "(3,)", &longs(&[0, 1, 1]))),
    ]);
    drop(whole("g.npz", &rows));
    fuzz("g.npz", &[seeds.as_slice(), &[rows]].concat(), 64 * MEGABYTE, graph("g.npz"));
    let linked = json!({
        "directed": true, "nodes": [{ "id": "ann", "x": [1, 0.5] }, { "id": 7, "x": [0, 2] }],
        "links": [{ "source": "ann", "target": 7, "weight": 2.5 }, { "source": 7, "target": "ann", "weight": 1 }],
    });
    let linked = linked.to_string().into_bytes();
    drop(whole("g.json", &linked));
    fuzz("g.json", &[linked], 64 * MEGABYTE, graph("g.json"));

    let guilds = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/gnn/guilds");
    let (guilds, _) = import(&Origin::Path(guilds)).unwrap();
    let rated = whole("edges.csv", &edges);
    let bare = whole("g.npz", &seeds[0]);
    let seeds = [bare.to_bytes(), rated.to_bytes(), guilds.to_bytes()];
    seeds.iter().for_each(|seed| assert_eq!(whole("x.graph", seed).to_bytes(), *seed));
    fuzz("x.graph", &seeds, 64 * MEGABYTE, graph("x.graph"));

    let preferences = format!(
        "{}\n{}\n",
        json!({ "src": "ann", "chosen": "bob", "rejected": "cy", "ts": 4.5 }),
        json!({ "src": "cy", "chosen": "ann", "rejected": "bob", "by": "who" })
    );
    let parse = in_folder(Vec::new(), "p.jsonl", move |folder| {
        drop(feedback::targets(&folder.join("p.jsonl"), &rated));
    });
    fuzz("p.jsonl", &[preferences.into_bytes()], 64 * MEGABYTE, parse);
}

/// A folder as the Open Graph Benchmark lays it out, unpacked, each file of it changed.
#[test]
fn graphs_of_the_open_graph_benchmark() {
    let files: [(&'static str, &'static str); 7] = [
        ("raw/num-node-list.csv", "3\n"),
        ("raw/edge.csv", "0,1\n2,1\n"),
        ("raw/node-feat.csv", "0.5,1\n0,0\n-1,2\n"),
        ("raw/node-label.csv", "1\nnan\n0.0\n"),
        ("raw/node_year.csv", "2001\n2002\n2003\n"),
        ("split/time/train.csv", "0\n"),
        ("split/time/test.csv", "2\n"),
    ];
    let folder = |but: Option<&str>| {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            if Some(name) != but {
                std::fs::write(path, text).unwrap();
            }
        }
        folder
    };
    import(&Origin::Path(folder(None).path().to_owned())).unwrap();
    for (name, text) in files {
        let folder = folder(Some(name));
        let parse = move |bytes: &[u8]| {
            std::fs::write(folder.path().join(name), bytes).unwrap();
            drop(import(&Origin::Path(folder.path().to_owned())));
        };
        let target = format!("ogb-{}", name.replace('/', "-"));
        fuzz_one_in(2, &target, &[text.as_bytes().to_vec()], 64 * MEGABYTE, parse);
    }
}

/// A split of links in such a folder, which is a pickle.
#[test]
fn links_of_the_open_graph_benchmark() {
    let pickled = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/gnn/src/tests/valid.pt");
    let split = std::fs::read(pickled).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let parts = ["train", "valid", "test"].map(|part| format!("split/time/{part}.pt"));
    let texts = [("raw/num-node-list.csv", "4\n"), ("raw/edge.csv", "0,3\n2,1\n")];
    let files = texts.iter().map(|(name, text)| (*name, text.as_bytes()));
    for (name, bytes) in files.chain(parts.iter().map(|name| (name.as_str(), split.as_slice()))) {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    import(&Origin::Path(folder.path().to_owned())).unwrap();
    let parse = move |bytes: &[u8]| {
        std::fs::write(folder.path().join("split/time/test.pt"), bytes).unwrap();
        drop(import(&Origin::Path(folder.path().to_owned())));
    };
    fuzz("ogb-links.pt", &[split], 64 * MEGABYTE, parse);
}

/// Market files, one of each format.
fn markets() -> Vec<(MarketFormat, Vec<u8>)> {
    let kline =
        "1640991660000,46319.0,46385.5,46310.00000001,46377.0,23.5,1640991719999,1088000.1,120,11.25,521000.0,0";
    let rows = [
        (MarketFormat::Klines, kline.to_owned()),
        (
            MarketFormat::Bars,
            "timestamp,open,high,low,close,volume\n1640991660,5,6,4,5.5,1\n1640991720,5,6,4,5,0".to_owned(),
        ),
        (MarketFormat::Trades, "5,46319.1,0.002,92.6382,1640991660123,True,True".to_owned()),
        (MarketFormat::AggTrades, "5,46319.1,0.002,9,9,1640991660123,True,True".to_owned()),
        (MarketFormat::Prints, "1640991660123,46319.1,-0.002\n1640991660124,46319.2,0.001".to_owned()),
        (
            MarketFormat::PoolSwaps,
            "evt_block_number,evt_block_time,evt_index,amount0,amount1,liquidity,sqrtPriceX96,tick\n\
             18937000,2024-01-05 00:00:11.000 UTC,12,1000,-990,700,79228162514264337593543950336,0"
                .to_owned(),
        ),
        (
            MarketFormat::OrcaSwaps,
            "slot,tx_index,log_index,time,whirlpool,a_to_b,pre_sqrt_price,post_sqrt_price,input_amount,output_amount,\
             lp_fee,protocol_fee\n\
             7,0,1,1704412811,P,true,18446744073709551616,18428297329635842064,1000501,999000,436,64\n\
             7,0,2,1704412811,P,false,18428297329635842064,18446744073709551616,999500,999000,436,64"
                .to_owned(),
        ),
        (
            MarketFormat::PoolEvents,
            "block_number,block_timestamp,tx_type,transaction_hash,pool_tx_index,pool_log_index,proxy_log_index,\
             sender,receipt,amount0,amount1,total_liquidity,total_liquidity_delta,sqrtPriceX96,current_tick,\
             position_id,tick_lower,tick_upper,liquidity\n\
             7,2024-01-05 00:00:23,SWAP,0x0,3,1,,0x1,0x2,1000,-990,500,0,79228162514264337593543950336,-1.0,,,,\n\
             7,2024-01-05 00:00:23,MINT,0x0,4,2,,0x1,0x2,10,10,700,200,79228162514264337593543950336,-1.0,,-10.0,\
             10.0,200"
                .to_owned(),
        ),
    ];
    rows.into_iter().map(|(format, rows)| (format, format!("{rows}\n").into_bytes())).collect()
}

fn imported(name: &str, bytes: &[u8], format: Option<MarketFormat>) -> Market {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    defi::import(&[path], format).unwrap().market
}

#[test]
fn market_files() {
    let paths = |folder: &Path, name: &str| -> Vec<PathBuf> { vec![folder.join(name)] };
    let mut canonical = Vec::new();
    for (format, seed) in markets() {
        let market = imported("market.csv", &seed, Some(format));
        assert_eq!(imported("market.csv", &seed, None), market);
        if let Market::Events(events) = &market {
            canonical.push(Market::Minutes(defi::minutes_of_events(events).unwrap()));
        }
        canonical.push(market);
        let parse = in_folder(Vec::new(), "market.csv", move |folder| {
            for format in [None, Some(format)] {
                drop(defi::import(&paths(folder, "market.csv"), format));
            }
        });
        fuzz(format.name(), &[seed], 64 * MEGABYTE, parse);
    }
    let minutes = "timestamp,netAmount0,netAmount1,closeTick,openTick,lowestTick,highestTick,inAmount0,inAmount1,\
                   currentLiquidity\n2024-01-05 00:00:00,1000,-990,-1,-1,-1,-1,1000,0,700\n";
    imported("market.csv", minutes.as_bytes(), None);
    let parse = in_folder(Vec::new(), "market.csv", move |folder| {
        drop(defi::import(&paths(folder, "market.csv"), Some(MarketFormat::PoolMinutes)));
    });
    fuzz("pool-minutes", &[minutes.as_bytes().to_vec()], 64 * MEGABYTE, parse);

    let folder = tempfile::tempdir().unwrap();
    let seeds: Vec<Vec<u8>> = canonical
        .iter()
        .map(|market| {
            let path = folder.path().join("market");
            defi::write(&path, market).unwrap();
            std::fs::read(path).unwrap()
        })
        .collect();
    // As it comes, and with the digest made anew: only then the rows are looked at.
    let parse = in_folder(Vec::new(), "market", |folder| {
        let path = folder.join("market");
        drop(defi::read(&path));
        let bytes = std::fs::read(&path).unwrap();
        if let Some(end) = bytes.windows(2).rposition(|pair| pair == b"# ") {
            let seal = format!("# {}\n", blake3::hash(&bytes[..end]).to_hex());
            std::fs::write(&path, [&bytes[..end], seal.as_bytes()].concat()).unwrap();
            drop(defi::read(&path));
        }
    });
    fuzz("canonical-market", &seeds, 64 * MEGABYTE, parse);
}

#[test]
fn positions() {
    let seed = b"id,tick_lower,tick_upper,liquidity,opened,closed,fees0,fees1\n\
        a,-10,20,5,7:8:9,2024-01-05 00:44:59,1,0\nb,0,10,1,2024-01-05 00:44:58,,,\n"
        .to_vec();
    let read = |folder: &Path| {
        let events = defi::import(&[folder.join("events.csv")], None);
        let owned = defi::owned(&folder.join("positions.csv"));
        if let (Ok(owned), Ok(Market::Events(events))) = (owned, events.map(|import| import.market)) {
            let terms = ftk_defi::replay::Terms { fee: 500, spacing: 10, decimals: [6, 18], money: 0 };
            for owned in owned {
                drop(ftk_defi::positions::replay(&events, &terms, &owned));
            }
        }
    };
    let seeds: Vec<Vec<u8>> =
        markets().into_iter().filter(|(format, _)| *format == MarketFormat::PoolEvents).map(|(_, seed)| seed).collect();
    let events = seeds[0].clone();
    let parse = in_folder(Vec::new(), "positions.csv", move |folder| {
        std::fs::write(folder.join("events.csv"), &events).unwrap();
        read(folder);
    });
    fuzz("positions.csv", &[seed], 64 * MEGABYTE, parse);
}

/// Seals a decision log anew, line by line.
fn sealed(text: &str) -> String {
    let mut previous = String::new();
    let seal = |line: &str| -> Option<String> {
        let mut fields: Map<String, Value> = serde_json::from_str(line).ok()?;
        fields.shift_remove("digest");
        fields.insert("previous".to_owned(), previous.clone().into());
        let text = Value::Object(fields.clone()).to_string();
        let digest = blake3::derive_key("ftk decision log line 1", text.as_bytes());
        previous = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        fields.insert("digest".to_owned(), previous.clone().into());
        Some(Value::Object(fields).to_string() + "\n")
    };
    text.lines().map_while(seal).collect()
}

#[test]
fn decision_logs_and_plans() {
    let entry = |bar: usize| LogEntry {
        bar,
        time: 1_640_991_660_000_000 + bar as i64,
        state: json!({ "cash": "0", "held": -3 }),
        ids: vec![5, 6, 7],
        action: 9,
        order: json!({ "bid": 5, "ask": null }),
    };
    let header = LogHeader {
        market: "m".to_owned(),
        terms: "t".to_owned(),
        base: "b".to_owned(),
        adapter: "a".to_owned(),
        bars: [10, 60],
        every: 20,
    };
    let log = DecisionLog { header, entries: (0..3).map(|step| entry(10 + 20 * step)).collect() };
    let (text, head) = log.write();
    assert_eq!(DecisionLog::read(&text).unwrap(), (log, head));
    assert_eq!(sealed(&text), text);
    fuzz("log", &[text.into_bytes()], 16 * MEGABYTE, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        drop(DecisionLog::read(&text));
        drop(DecisionLog::read(&sealed(&text)));
    });
    let plans: Vec<Vec<u8>> = SHIPPED.iter().map(|(_, plan)| plan.as_bytes().to_vec()).collect();
    fuzz("plan", &plans, 16 * MEGABYTE, |bytes| drop(Plan::parse("plan.toml", &String::from_utf8_lossy(bytes))));
    let rows: Vec<u8> = b"1640991660000000,5,6,4,5,1,\n1640991720000000,5,6,4,5,1,1\n".to_vec();
    fuzz("canonical-rows", &[rows], 16 * MEGABYTE, |bytes| {
        let lines: Vec<String> = String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect();
        for minutes in [false, true] {
            drop(defi::canonical_rows("rows", minutes, &lines));
        }
    });
}

/// What a bundle about nodes carries: a part of a graph, which is no other than the one that was opened if it hangs from
/// the same root, and a head.
#[test]
fn parts_of_graphs_and_heads() {
    let guilds = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/gnn/guilds");
    let (graph, _) = import(&Origin::Path(guilds)).unwrap();
    let (root, part) = (graph.root(), graph.neighbourhood(&[3, 100], 1).unwrap());
    let honest = part.encode();
    let seed = honest.clone();
    fuzz("graph.bin", &[seed], 16 * MEGABYTE, move |bytes| {
        let believed = Neighbourhood::decode(bytes).and_then(|part| part.check(&[3, 100], root.as_bytes()));
        assert_eq!(believed.is_ok(), bytes == honest);
    });
    // Under the root it hangs from itself, a part may be another one, and is run as such.
    let alike = GraphNetwork::new(GraphNetworkKind::Gcn, [part.width(), 4, 1, 1], Head::Convolution, 3);
    let weighed = GraphNetwork { messages: MessageKind::Weighed, ..alike.clone() };
    let mut other = graph.clone();
    other.carries.weight = true;
    let seeds = [part.encode(), other.neighbourhood(&[3, 100], 1).unwrap().encode()];
    fuzz("graph.bin-of-its-own", &seeds, 64 * MEGABYTE, move |bytes| {
        let Ok(part) = Neighbourhood::decode(bytes) else { return };
        let Some(root) = part.root() else { return };
        for network in [&alike, &weighed] {
            if part.check(&[3, 100], root.as_bytes()).is_ok() && part.fits(network).is_ok() {
                let pass = part.pass(network, &[3, 100]);
                assert_eq!((pass.rows.len(), pass.hops.len()), (2, 1));
                assert_eq!(part.receivers(&[3, 100]), [2]);
            }
        }
    });
    // Of a state, for pairs: one of whom one is not there.
    let rating =
        |at: u32| Edge { source: at % 5, target: 5 + at % 3, weight: at as f32 - 6.0, time: f64::from(at / 2) };
    let ratings: Vec<Edge> = (0..12).map(rating).collect();
    let known = KnownRatings::new(9.0, &ratings, |user| user.to_string()).unwrap();
    let asked = [["1", "6"], ["8x", "5"]].map(|pair| pair.map(str::to_owned));
    let (root, part) = (known.root(), known.open(&asked));
    let (honest, seed, pairs) = (part.encode(), part.encode(), asked.clone());
    fuzz("state.bin", &[seed], 16 * MEGABYTE, move |bytes| {
        let believed = StatePart::decode(bytes).and_then(|part| part.check(&pairs, root.as_bytes()));
        assert_eq!(believed.is_ok(), bytes == honest);
    });
    fuzz("state.bin-of-its-own", &[part.encode()], 64 * MEGABYTE, move |bytes| {
        let Ok(part) = StatePart::decode(bytes) else { return };
        assert_eq!(part.encode(), bytes);
        if part.root().is_some_and(|root| part.check(&asked, root.as_bytes()).is_ok()) {
            assert_eq!(part.pairs(&asked).len(), 2);
        }
    });
    let head = [("head.bias".to_owned(), (vec![2], vec![0.5, -1.0]))].into();
    fuzz("head.safetensors", &[head_bytes(&head)], MEGABYTE, |bytes| {
        if let Ok(head) = parse_head(bytes) {
            assert_eq!(head_bytes(&head), bytes);
        }
    });
}
