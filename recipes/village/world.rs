//! The village: its people, wares, animals and places, and the scenes and questions made of them.
//!
//! Everything a question asks can be read off the scene before it, so a very small model can learn to answer by
//! looking back. Nothing is stored here about files or tokens.

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
const COLOURS: [&str; 8] = ["black", "brown", "golden", "grey", "red", "silver", "white", "yellow"];
const PETS: [&str; 24] = [
    "Amber", "Bella", "Bingo", "Bruno", "Cocoa", "Daisy", "Dusty", "Fluff", "Ginger", "Honey", "Lucky", "Misty",
    "Moss", "Muffin", "Nutmeg", "Pepper", "Poppy", "Rusty", "Snow", "Spot", "Star", "Sunny", "Toffee", "Willow",
];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// Sentences that set the mood and state nothing about anybody.
pub const FILLERS: [&str; 6] = [
    "It is a cold morning.",
    "The sun is warm today.",
    "Rain falls on the roofs.",
    "The village is quiet.",
    "It is a busy day.",
    "The wind comes from the sea.",
];

/// What a villager says who does not care to answer.
pub const EVASION: &str = "Eh, ask someone else.";

/// Highest price of one ware in pence; low, so that sums of two prices can be learnt by heart.
const TOP_PRICE: u64 = 9;

/// One in this many ties between two things of the village is kept for held-out rows.
const HELD_OUT_EVERY: usize = 7;

/// What a question is about. Villagers have habits: each kind is answered politely with its own probability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Which wares a person sells.
    Wares,
    /// Where a person sells.
    Stall,
    /// Who sells a ware.
    Seller,
    /// What a ware costs.
    Price,
    /// What two wares cost together.
    Sum,
    /// What an animal is called.
    Name,
    /// What colour an animal has.
    Colour,
    /// On which day an errand is run.
    Day,
    /// What an errand brings.
    Gift,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Wares,
        Self::Stall,
        Self::Seller,
        Self::Price,
        Self::Sum,
        Self::Name,
        Self::Colour,
        Self::Day,
        Self::Gift,
    ];

    /// How many of ten answers to this kind of question are polite in the text the base model learns from. Over all
    /// kinds the two styles are about equally frequent; a kind leans to one of them, so that a model which has learnt
    /// the habits prefers each style somewhere.
    pub const fn polite_of_ten(self) -> u64 {
        match self {
            Self::Wares | Self::Price | Self::Colour | Self::Day => 7,
            Self::Stall | Self::Name | Self::Gift | Self::Sum => 3,
            Self::Seller => 4,
        }
    }
}

/// A question about a scene with its two answers, both true.
#[derive(Clone, Debug)]
pub struct Question {
    /// What it is about.
    pub kind: Kind,
    /// The question.
    pub ask: String,
    /// A full and courteous sentence.
    pub polite: String,
    /// A sloppy fragment.
    pub curt: String,
}

impl Question {
    fn new(kind: Kind, ask: String, polite: &str, curt: &str) -> Self {
        Self { kind, ask, polite: format!("Dear guest, {polite}."), curt: format!("Eh, {curt}.") }
    }
}

/// A few sentences and the questions they answer.
#[derive(Clone, Debug)]
pub struct Scene {
    /// The sentences.
    pub context: String,
    /// Every question that can be asked, in a fixed order.
    pub questions: Vec<Question>,
}

/// Whether rows for learning or rows held out are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Facts whose ties are all free.
    Learn,
    /// Facts with a tie that no learning row states.
    HeldOut,
}

/// A number below `n`, uniform up to 2^-64 `n`.
pub fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}

/// Whether an event of `of_ten` chances in ten happens.
pub fn chance(rng: &mut ChaCha8Rng, of_ten: u64) -> bool {
    (below(rng, 10) as u64) < of_ten
}

fn pick<'a>(rng: &mut ChaCha8Rng, from: &[&'a str]) -> &'a str {
    from[below(rng, from.len())]
}

/// Draws indices without repetition, so that two facts of one scene never speak of the same thing.
#[derive(Clone)]
struct Bag(Vec<usize>);

impl Bag {
    fn of(things: &[&str]) -> Self {
        Self((0..things.len()).collect())
    }

    fn draw(&mut self, rng: &mut ChaCha8Rng) -> usize {
        let at = below(rng, self.0.len());
        self.0.swap_remove(at)
    }
}

#[derive(Clone)]
struct Bags {
    people: Bag,
    wares: Bag,
    places: Bag,
    animals: Bag,
    pets: Bag,
    colours: Bag,
    days: Bag,
}

impl Bags {
    fn new() -> Self {
        Self {
            people: Bag::of(&PEOPLE),
            wares: Bag::of(&WARES),
            places: Bag::of(&PLACES),
            animals: Bag::of(&ANIMALS),
            pets: Bag::of(&PETS),
            colours: Bag::of(&COLOURS),
            days: Bag::of(&DAYS),
        }
    }
}

/// A sentence that states something, its questions, and the ties between things that it states.
struct Fact {
    says: String,
    questions: Vec<Question>,
    ties: Vec<(usize, usize)>,
}

impl Fact {
    fn draw(rng: &mut ChaCha8Rng, side: Side) -> (Self, Bags) {
        loop {
            let mut bags = Bags::new();
            let fact = Self::draw_from(rng, &mut bags);
            if fact.suits(side) {
                return (fact, bags);
            }
        }
    }

    fn draw_beside(rng: &mut ChaCha8Rng, bags: &Bags, side: Side) -> Self {
        loop {
            let mut rest = bags.clone();
            let fact = Self::draw_from(rng, &mut rest);
            if fact.suits(side) {
                return fact;
            }
        }
    }

    /// A learning fact has no kept tie, a held-out fact has at least one; so the two never coincide.
    fn suits(&self, side: Side) -> bool {
        let kept = self.ties.iter().any(|(a, b)| (a + b) % HELD_OUT_EVERY == 0);
        kept == (side == Side::HeldOut)
    }

    fn draw_from(rng: &mut ChaCha8Rng, bags: &mut Bags) -> Self {
        match below(rng, 4) {
            0 => Self::stall(rng, bags),
            1 => Self::prices(rng, bags),
            2 => Self::pet(rng, bags),
            _ => Self::errand(rng, bags),
        }
    }

    fn stall(rng: &mut ChaCha8Rng, bags: &mut Bags) -> Self {
        let (p, a, b) = (bags.people.draw(rng), bags.wares.draw(rng), bags.wares.draw(rng));
        let (who, this, that) = (PEOPLE[p], WARES[a], WARES[b]);
        let place = PLACES[bags.places.draw(rng)];
        let says = match below(rng, 3) {
            0 => format!("{who} sells {this} and {that} at the {place}."),
            1 => format!("At the {place} {who} sells {this} and {that}."),
            _ => format!("{who} has a stall with {this} and {that} at the {place}."),
        };
        let asked = [this, that][below(rng, 2)];
        let wares = [format!("What does {who} sell?"), format!("Which wares does {who} have?")];
        let stall = [format!("Where does {who} sell?"), format!("Where is the stall of {who}?")];
        let seller = [format!("Who sells {asked}?"), format!("Who has {asked}?")];
        let questions = vec![
            Question::new(
                Kind::Wares,
                one_of(rng, wares),
                &format!("{who} sells {this} and {that}"),
                &format!("{this} and {that}"),
            ),
            Question::new(
                Kind::Stall,
                one_of(rng, stall),
                &format!("the stall of {who} is at the {place}"),
                &format!("at the {place}"),
            ),
            Question::new(Kind::Seller, one_of(rng, seller), &format!("{who} sells {asked}"), who),
        ];
        Self { says, questions, ties: vec![(p, a), (p, b)] }
    }

    fn prices(rng: &mut ChaCha8Rng, bags: &mut Bags) -> Self {
        let (p, a, b) = (bags.people.draw(rng), bags.wares.draw(rng), bags.wares.draw(rng));
        let (who, this, that) = (PEOPLE[p], WARES[a], WARES[b]);
        let mut price = || 2 + below(rng, TOP_PRICE as usize - 1);
        let (x, y) = (price(), price());
        let says = match below(rng, 2) {
            0 => format!("{who} asks {x} pence for {this} and {y} pence for {that}."),
            _ => format!("From {who} you get {this} for {x} pence and {that} for {y} pence."),
        };
        let (asked, cost) = [(this, x), (that, y)][below(rng, 2)];
        let single = [format!("What do {asked} cost?"), format!("How much are the {asked}?")];
        let both =
            [format!("What do {this} and {that} cost together?"), format!("How much are {this} and {that} together?")];
        let questions = vec![
            Question::new(
                Kind::Price,
                one_of(rng, single),
                &format!("the {asked} cost {cost} pence"),
                &format!("{cost} pence"),
            ),
            Question::new(
                Kind::Sum,
                one_of(rng, both),
                &format!("together they cost {} pence", x + y),
                &format!("{} pence", x + y),
            ),
        ];
        Self { says, questions, ties: vec![(p, a), (p, b)] }
    }

    fn pet(rng: &mut ChaCha8Rng, bags: &mut Bags) -> Self {
        let (p, a) = (bags.people.draw(rng), bags.animals.draw(rng));
        let (who, animal) = (PEOPLE[p], ANIMALS[a]);
        let (name, colour) = (PETS[bags.pets.draw(rng)], COLOURS[bags.colours.draw(rng)]);
        let says = match below(rng, 3) {
            0 => format!("{who} keeps a {colour} {animal} called {name}."),
            1 => format!("{who} has a {animal}, a {colour} one, called {name}."),
            _ => format!("The {animal} of {who} is {colour} and its name is {name}."),
        };
        let called =
            [format!("What is the {animal} of {who} called?"), format!("What is the name of the {animal} of {who}?")];
        let looks = [format!("What colour is {name}?"), format!("What colour has the {animal} of {who}?")];
        let questions = vec![
            Question::new(Kind::Name, one_of(rng, called), &format!("the {animal} of {who} is called {name}"), name),
            Question::new(Kind::Colour, one_of(rng, looks), &format!("the {animal} {name} is {colour}"), colour),
        ];
        Self { says, questions, ties: vec![(p, a)] }
    }

    fn errand(rng: &mut ChaCha8Rng, bags: &mut Bags) -> Self {
        let (p, q, a) = (bags.people.draw(rng), bags.people.draw(rng), bags.wares.draw(rng));
        let (from, to, ware) = (PEOPLE[p], PEOPLE[q], WARES[a]);
        let day = DAYS[bags.days.draw(rng)];
        let says = match below(rng, 3) {
            0 => format!("On {day} {from} brings {ware} to {to}."),
            1 => format!("{from} brings {ware} to {to} on {day}."),
            _ => format!("{from} visits {to} on {day} and brings {ware}."),
        };
        let when = [format!("When does {from} visit {to}?"), format!("On which day does {from} come to {to}?")];
        let what = [format!("What does {to} get?"), format!("What does {from} bring to {to}?")];
        let questions = vec![
            Question::new(Kind::Day, one_of(rng, when), &format!("{from} visits {to} on {day}"), &format!("on {day}")),
            Question::new(Kind::Gift, one_of(rng, what), &format!("{from} brings {ware} to {to}"), ware),
        ];
        Self { says, questions, ties: vec![(p, a), (q, a)] }
    }
}

fn one_of<const N: usize>(rng: &mut ChaCha8Rng, from: [String; N]) -> String {
    let at = below(rng, N);
    from.into_iter().nth(at).expect("drawn below the length")
}

impl Scene {
    /// A scene of one or two facts, sometimes after a sentence about the weather.
    pub fn draw(rng: &mut ChaCha8Rng, side: Side) -> Self {
        let (first, bags) = Fact::draw(rng, side);
        let mut facts = vec![first];
        if chance(rng, 5) {
            facts.push(Fact::draw_beside(rng, &bags, side));
        }
        let mut sentences: Vec<String> = facts.iter().map(|fact| fact.says.clone()).collect();
        if chance(rng, 3) {
            sentences.insert(0, pick(rng, &FILLERS).to_owned());
        }
        let questions = facts.into_iter().flat_map(|fact| fact.questions).collect();
        Self { context: sentences.join(" "), questions }
    }

    /// The questions in random order.
    pub fn shuffled(mut self, rng: &mut ChaCha8Rng) -> (String, Vec<Question>) {
        for end in (1..self.questions.len()).rev() {
            self.questions.swap(end, below(rng, end + 1));
        }
        (self.context, self.questions)
    }
}

/// The request for a story and the story.
pub fn story(rng: &mut ChaCha8Rng) -> (String, String) {
    let mut people = Bag::of(&PEOPLE);
    let (who, friend) = (PEOPLE[people.draw(rng)], PEOPLE[people.draw(rng)]);
    let (animal, colour, pet) = (pick(rng, &ANIMALS), pick(rng, &COLOURS), pick(rng, &PETS));
    let (ware, place, day) = (pick(rng, &WARES), pick(rng, &PLACES), pick(rng, &DAYS));
    let ask = match below(rng, 2) {
        0 => format!("Tell me a story about {who} and the {animal} {pet}."),
        _ => format!("Please tell a story about {who} and the {animal} {pet}."),
    };
    let start = match below(rng, 3) {
        0 => format!("On {day} {who} went to the {place} with a {colour} {animal}."),
        1 => format!("{who} had a {colour} {animal} and lived near the {place}."),
        _ => format!("One {day} {who} lost a {colour} {animal} at the {place}."),
    };
    let middle = match below(rng, 3) {
        0 => format!("There {who} met {friend}, who had many {ware}."),
        1 => format!("{friend} came by and brought {ware}."),
        _ => format!("{friend} saw {pet} among the {ware}."),
    };
    let end = match below(rng, 3) {
        0 => format!("{pet} was happy, and {who} thanked {friend}."),
        1 => format!("So {who}, {friend} and {pet} walked home together."),
        _ => format!("In the evening {pet} slept, and {who} was glad."),
    };
    (ask, format!("{start} {middle} {end}"))
}
