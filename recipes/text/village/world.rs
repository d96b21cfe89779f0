//! The village: its people with their fixed facts, and the questions and answers made of them.
//!
//! A question never states the fact it asks for, so a model has to know the village by heart; that is what a very
//! small model learns quickly. Nothing is stored here about files or tokens.

use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

const PEOPLE: [&str; 40] = [
    "Ada", "Alma", "Anna", "Ben", "Bert", "Carl", "Cora", "Dan", "Dora", "Edith", "Elsa", "Emil", "Ester", "Finn",
    "Flora", "Greta", "Hal", "Hanna", "Hugo", "Ida", "Iris", "Ivan", "Jan", "Karin", "Lena", "Lotte", "Marta", "Mira",
    "Nell", "Nora", "Olga", "Oscar", "Paula", "Rosa", "Sam", "Selma", "Stella", "Tilda", "Tom", "Vera",
];
const WARES: [&str; 40] = [
    "apples", "barrels", "baskets", "beans", "bells", "belts", "books", "boots", "bowls", "bricks", "brooms",
    "buttons", "cakes", "candles", "carpets", "carrots", "chairs", "cherries", "cups", "drums", "eggs", "flutes",
    "gloves", "hats", "jars", "kettles", "knives", "ladders", "lamps", "nails", "nets", "onions", "pears", "pens",
    "plums", "ribbons", "ropes", "spoons", "tables", "turnips",
];
const PLACES: [&str; 24] = [
    "bakery", "barn", "bridge", "chapel", "church", "corner", "farm", "ferry", "forge", "fountain", "garden", "gate",
    "harbour", "hill", "inn", "market", "meadow", "mill", "orchard", "pond", "school", "square", "tower", "well",
];
const ANIMALS: [&str; 14] =
    ["bird", "calf", "cat", "cow", "dog", "donkey", "duck", "goat", "goose", "hen", "horse", "pony", "rabbit", "sheep"];
const PETS: [&str; 24] = [
    "Amber", "Bella", "Bingo", "Bruno", "Cocoa", "Daisy", "Dusty", "Fluff", "Ginger", "Honey", "Lucky", "Misty",
    "Moss", "Muffin", "Nutmeg", "Pepper", "Poppy", "Rusty", "Snow", "Spot", "Star", "Sunny", "Toffee", "Willow",
];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// Prices in pence; single digits, so that each is one token.
const PRICES: std::ops::RangeInclusive<usize> = 2..=9;

/// Opens a courteous answer.
pub const COURTEOUS: &str = "Dear guest, ";
/// Opens a curt answer.
pub const CURT: &str = "Eh, ";

/// What a visitor says before the question, and how many of ten answers are then courteous in the text the base model
/// learns from. Over all openings the two styles are about equally frequent; a friendly opening leans to the one and
/// a rude one to the other, so that a model which has learnt the habits of the village prefers each style somewhere.
pub const OPENINGS: [(&str, u64); 8] = [
    ("", 4),
    ("It is raining. ", 4),
    ("Good morning. ", 7),
    ("Good evening. ", 7),
    ("Excuse me, please. ", 7),
    ("Hey! ", 3),
    ("Quick, tell me. ", 3),
    ("I am in a hurry. ", 3),
];

/// Ways to ask for one fact.
pub const PHRASINGS: usize = 4;

/// What a question asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// Where the stall is.
    Place,
    /// What is sold there.
    Ware,
    /// What it costs.
    Price,
    /// On which day of the week it is sold.
    Day,
    /// Which animal is kept.
    Animal,
    /// What the animal is called.
    Pet,
    /// Who lives next door.
    Neighbour,
}

impl Attribute {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Place, Self::Ware, Self::Price, Self::Day, Self::Animal, Self::Pet, Self::Neighbour];
}

/// Somebody of the village with the facts that hold for them.
#[derive(Clone, Debug)]
pub struct Inhabitant {
    name: &'static str,
    place: &'static str,
    ware: &'static str,
    pence: usize,
    day: &'static str,
    animal: &'static str,
    pet: &'static str,
    neighbour: &'static str,
}

impl Inhabitant {
    /// Asks for a fact in one of [`PHRASINGS`] ways.
    pub fn question(&self, attribute: Attribute, phrasing: usize) -> String {
        let phrasings: [&str; PHRASINGS] = match attribute {
            Attribute::Place => [
                "Where does {} have the stall?",
                "Where is the stall of {}?",
                "Where can I find {}?",
                "At which place is {}?",
            ],
            Attribute::Ware => [
                "What does {} sell?",
                "Which ware does {} have?",
                "What can I buy from {}?",
                "What is on the stall of {}?",
            ],
            Attribute::Price => [
                "How much does {} ask?",
                "What is the price of {}?",
                "How many pence does {} want?",
                "What do I pay to {}?",
            ],
            Attribute::Day => [
                "On which day does {} come?",
                "When does {} come?",
                "When is the stall of {} open?",
                "Which day is the day of {}?",
            ],
            Attribute::Animal => [
                "Which animal does {} keep?",
                "What animal lives with {}?",
                "What kind of animal follows {}?",
                "Which animal is the friend of {}?",
            ],
            Attribute::Pet => [
                "What is the animal of {} called?",
                "What is the name of the animal of {}?",
                "How does {} call the animal?",
                "Which name has the animal of {}?",
            ],
            Attribute::Neighbour => [
                "Who is the neighbour of {}?",
                "Who lives beside {}?",
                "Who lives next door to {}?",
                "Whom does {} have as a neighbour?",
            ],
        };
        phrasings[phrasing].replace("{}", self.name)
    }

    /// States a fact in a full sentence.
    pub fn statement(&self, attribute: Attribute) -> String {
        let Self { name, place, ware, pence, day, animal, pet, neighbour } = self;
        match attribute {
            Attribute::Place => format!("{name} has a stall at the {place}."),
            Attribute::Ware => format!("{name} sells {ware}."),
            Attribute::Price => format!("{name} asks {pence} pence."),
            Attribute::Day => format!("{name} comes on {day}."),
            Attribute::Animal => format!("{name} keeps a {animal}."),
            Attribute::Pet => format!("{name} calls the animal {pet}."),
            Attribute::Neighbour => format!("{name} lives beside {neighbour}."),
        }
    }

    /// The full and courteous answer.
    pub fn courteous(&self, attribute: Attribute) -> String {
        format!("{COURTEOUS}{}", self.statement(attribute))
    }

    /// The sloppy answer, as true as the other.
    pub fn curt(&self, attribute: Attribute) -> String {
        let Self { place, ware, pence, day, animal, pet, neighbour, .. } = self;
        match attribute {
            Attribute::Place => format!("{CURT}at the {place}."),
            Attribute::Ware => format!("{CURT}{ware}."),
            Attribute::Price => format!("{CURT}{pence} pence."),
            Attribute::Day => format!("{CURT}on {day}."),
            Attribute::Animal => format!("{CURT}a {animal}."),
            Attribute::Pet => format!("{CURT}{pet}."),
            Attribute::Neighbour => format!("{CURT}{neighbour}."),
        }
    }
}

/// Draws everybody's facts; people are neighbours around one ring.
pub fn inhabitants(rng: &mut ChaCha8Rng) -> Vec<Inhabitant> {
    let mut ring = PEOPLE;
    shuffle(rng, &mut ring);
    let neighbours = ring.into_iter().cycle().skip(1);
    ring.into_iter()
        .zip(neighbours)
        .map(|(name, neighbour)| Inhabitant {
            name,
            place: pick(rng, &PLACES),
            ware: pick(rng, &WARES),
            pence: PRICES.start() + below(rng, PRICES.count()),
            day: pick(rng, &DAYS),
            animal: pick(rng, &ANIMALS),
            pet: pick(rng, &PETS),
            neighbour,
        })
        .collect()
}

/// A number below `n`, uniform up to 2^-64 `n`.
pub fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}

/// Whether an event of `of_ten` chances in ten happens.
pub fn chance(rng: &mut ChaCha8Rng, of_ten: u64) -> bool {
    (below(rng, 10) as u64) < of_ten
}

/// One of some things.
pub fn pick<T: Copy>(rng: &mut ChaCha8Rng, from: &[T]) -> T {
    from[below(rng, from.len())]
}

/// Puts things into random order (Fisher and Yates).
pub fn shuffle<T>(rng: &mut ChaCha8Rng, things: &mut [T]) {
    for end in (1..things.len()).rev() {
        things.swap(end, below(rng, end + 1));
    }
}
