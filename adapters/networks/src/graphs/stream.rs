//! What is known of users, and of one rating another, right before it happens: a state that takes ratings in one after
//! another, in the order of their times, and is asked before it takes the next one in. Ratings of one moment do not know
//! of each other.
//!
//! Everything is scaled alike for every graph, so that what learnt on one is applied to another.

use std::collections::HashMap;

use super::leaf::Edge;

/// Features of a user.
pub const OF_USER: usize = 22;
/// Features of a pair.
pub const OF_RATING: usize = 38;
/// Ratings are divided by their largest magnitude in the data this was made for.
pub const SCALE: f64 = 10.0;
/// Ratings that a mean is pulled towards the overall mean by.
const SHRINK: f64 = 2.0;
const DAY: f64 = 86_400.0;
/// What a running mean of the latest ratings keeps of itself with each.
const KEPT: f64 = 0.7;
/// Most of a user's ratings that are looked through for what lies between two: the latest.
const LATEST: usize = 400;

/// A rating as one of its ends remembers it.
#[derive(Clone, Copy, Debug)]
struct PastRating {
    other: u32,
    rating: f64,
    time: f64,
}

/// Ratings in one direction at one user.
#[derive(Clone, Debug, Default)]
struct UserRatings {
    /// In the order of time.
    ratings: Vec<PastRating>,
    sum: f64,
    squares: f64,
    negative: f64,
    /// Running mean of the latest.
    recent: f64,
}

impl UserRatings {
    fn count(&self) -> f64 {
        self.ratings.len() as f64
    }

    /// Mean difference from the overall mean, pulled towards 0.
    fn above(&self, mean: f64) -> f64 {
        (self.sum - mean * self.count()) / (self.count() + SHRINK)
    }

    fn deviation(&self) -> f64 {
        let count = self.count().max(1.0);
        (self.squares / count - (self.sum / count) * (self.sum / count)).max(0.0).sqrt()
    }

    fn negative_share(&self, overall: f64) -> f64 {
        (self.negative + overall * SHRINK) / (self.count() + SHRINK)
    }

    /// How many there were within a time before now, and how many negative ones.
    fn within(&self, now: f64, span: f64) -> (f64, f64) {
        let latest = self.ratings.iter().rev().take(LATEST).take_while(|it| now - it.time <= span);
        latest.fold((0.0, 0.0), |(all, bad), it| (all + 1.0, bad + f64::from(u8::from(it.rating < 0.0))))
    }

    fn take(&mut self, other: u32, rating: f64, time: f64) {
        self.recent = if self.ratings.is_empty() { rating } else { KEPT * self.recent + (1.0 - KEPT) * rating };
        self.sum += rating;
        self.squares += rating * rating;
        self.negative += f64::from(u8::from(rating < 0.0));
        self.ratings.push(PastRating { other, rating, time });
    }

    fn age(&self, now: f64) -> f64 {
        self.ratings.last().map_or(0.0, |it| days(now - it.time))
    }

    fn first(&self) -> Option<f64> {
        self.ratings.first().map(|it| it.time)
    }
}

fn days(seconds: f64) -> f64 {
    libm::log1p(seconds.max(0.0) / DAY) / 4.0
}

fn flag(set: bool) -> f64 {
    f64::from(u8::from(set))
}

/// What all ratings so far come to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RatingTotals {
    /// How many there are.
    pub ratings: u64,
    /// Their sum, added in their order.
    pub sum: f64,
    /// How many are negative.
    pub negative: u64,
}

impl RatingTotals {
    /// Of these ratings and one more.
    fn take(&mut self, rating: f64) {
        self.ratings += 1;
        self.sum += rating;
        self.negative += u64::from(rating < 0.0);
    }

    /// Of these ratings, in their order.
    pub fn of(ratings: &[Edge]) -> Self {
        let mut totals = Self::default();
        ratings.iter().for_each(|edge| totals.take(f64::from(edge.weight)));
        totals
    }
}

/// What is known of all ratings so far.
#[derive(Clone, Debug, Default)]
pub struct StreamState {
    received: Vec<UserRatings>,
    given: Vec<UserRatings>,
    /// The last rating of one user by another, and its time.
    ratings: HashMap<(u32, u32), (f64, f64)>,
    totals: RatingTotals,
}

impl StreamState {
    /// Of so many users, of whom nothing is known.
    pub fn new(users: usize) -> Self {
        let none = vec![UserRatings::default(); users];
        Self { received: none.clone(), given: none, ..Self::default() }
    }

    /// Takes a rating in.
    pub fn take(&mut self, edge: &Edge) {
        let rating = f64::from(edge.weight);
        self.received[edge.target as usize].take(edge.source, rating, edge.time);
        self.given[edge.source as usize].take(edge.target, rating, edge.time);
        self.ratings.insert((edge.source, edge.target), (rating, edge.time));
        self.totals.take(rating);
    }

    /// The same where ratings were taken in of some users alone, and all together come to so much: what is known of these
    /// users is what is known of them where all are taken in.
    #[must_use]
    pub fn of_all(self, totals: RatingTotals) -> Self {
        Self { totals, ..self }
    }

    fn count(&self) -> f64 {
        self.totals.ratings as f64
    }

    /// Mean of all ratings.
    pub fn mean(&self) -> f64 {
        self.totals.sum / self.count().max(1.0)
    }

    fn overall_negative(&self) -> f64 {
        self.totals.negative as f64 / self.count().max(1.0)
    }

    /// The target's mean rating, pulled towards the overall mean.
    pub fn target_mean(&self, target: u32) -> f64 {
        self.mean() + self.received[target as usize].above(self.mean())
    }

    /// That plus by how much the source's ratings lie above the overall mean.
    pub fn both_means(&self, source: u32, target: u32) -> f64 {
        self.target_mean(target) + self.given[source as usize].above(self.mean())
    }

    /// What is known of a user at a moment.
    pub fn user(&self, user: u32, now: f64) -> [f32; OF_USER] {
        let (into, out) = (&self.received[user as usize], &self.given[user as usize]);
        let (mean, negative) = (self.mean(), self.overall_negative());
        let first = [into.first(), out.first()].into_iter().flatten().reduce(|a: f64, b: f64| a.min(b));
        let (in_day, in_day_bad) = into.within(now, DAY);
        let (out_day, out_day_bad) = out.within(now, DAY);
        let (in_month, in_month_bad) = into.within(now, 30.0 * DAY);
        let row = [
            flag(into.count() == 0.0),
            flag(out.count() == 0.0),
            libm::log1p(into.count()) / 4.0,
            libm::log1p(out.count()) / 4.0,
            into.above(mean) / SCALE * 4.0,
            out.above(mean) / SCALE * 4.0,
            into.negative_share(negative) * 2.0,
            out.negative_share(negative) * 2.0,
            libm::log1p(into.negative) / 2.0,
            libm::log1p(out.negative) / 2.0,
            into.recent / SCALE * 2.0,
            out.recent / SCALE * 2.0,
            into.age(now),
            out.age(now),
            first.map_or(0.0, |first| days(now - first)),
            libm::log1p(in_day) / 2.0,
            libm::log1p(in_day_bad),
            libm::log1p(out_day) / 2.0,
            libm::log1p(out_day_bad),
            libm::log1p(in_month_bad),
            out.deviation() / SCALE * 2.0,
            libm::log1p(in_month) / 3.0,
        ];
        row.map(|value| value as f32)
    }

    /// Whom a user had to do with last, in either direction, none twice: at most so many.
    pub fn recent_neighbours(&self, user: u32, most: usize) -> Vec<u32> {
        let latest = |of: &[UserRatings]| -> Vec<PastRating> {
            of[user as usize].ratings.iter().rev().take(2 * most).copied().collect()
        };
        let mut all = [latest(&self.received), latest(&self.given)].concat();
        // The sort is stable: of one moment, those who rated come first.
        all.sort_by(|a, b| b.time.total_cmp(&a.time));
        let mut found: Vec<u32> = Vec::with_capacity(most);
        for it in all {
            if found.len() < most && !found.contains(&it.other) {
                found.push(it.other);
            }
        }
        found
    }

    /// Who gave the ratings of a user that are looked through, the latest first.
    pub fn latest_raters(&self, user: u32) -> impl Iterator<Item = u32> {
        self.received[user as usize].ratings.iter().rev().take(LATEST).map(|it| it.other)
    }

    /// What is known of one user rating another at a moment: of what the two gave and received, and of what
    /// [`StreamState::latest_raters`] of the target gave and received.
    pub fn pair(&self, source: u32, target: u32, now: f64) -> [f32; OF_RATING] {
        let (given, received) = (&self.given[source as usize], &self.received[target as usize]);
        let (mean, negative) = (self.mean(), self.overall_negative());
        let back = self.ratings.get(&(target, source));
        let before = self.ratings.get(&(source, target));
        // Who rated the target: what the source says of them, what is said of them, and what they say otherwise.
        let (mut trusted, mut trust, mut said) = (0.0f64, 0.0f64, 0.0f64);
        let (mut weights, mut weighed, mut surprise) = (0.0f64, 0.0f64, 0.0f64);
        for it in received.ratings.iter().rev().take(LATEST) {
            if let Some((own, _)) = self.ratings.get(&(source, it.other)) {
                trusted += 1.0;
                trust += own * it.rating / (SCALE * SCALE);
                said += own.signum() * it.rating / SCALE;
            }
            let standing = 1.0 + (self.received[it.other as usize].above(mean) + mean).max(-0.9);
            weights += standing;
            weighed += standing * it.rating / SCALE;
            let theirs = &self.given[it.other as usize];
            surprise += (it.rating - (theirs.sum - it.rating) / (theirs.count() - 1.0).max(1.0)) / SCALE;
        }
        let (mut rated, mut opinion) = (0.0f64, 0.0f64);
        // Whom both rated: how alike they rate.
        let (mut common, mut alike) = (0.0f64, 0.0f64);
        // Whom the target rated and who rated the source.
        for it in self.given[target as usize].ratings.iter().rev().take(LATEST) {
            if let Some((theirs, _)) = self.ratings.get(&(it.other, source)) {
                rated += 1.0;
                opinion += theirs * it.rating / (SCALE * SCALE);
            }
            if let Some((own, _)) = self.ratings.get(&(source, it.other)) {
                common += 1.0;
                alike += own * it.rating / (SCALE * SCALE);
            }
        }
        // Who rated both.
        let (mut judges, mut verdicts) = (0.0f64, 0.0f64);
        for it in self.received[source as usize].ratings.iter().rev().take(LATEST) {
            if let Some((theirs, _)) = self.ratings.get(&(it.other, target)) {
                judges += 1.0;
                verdicts += theirs * it.rating / (SCALE * SCALE);
            }
        }
        let last = |of: &UserRatings| of.ratings.last().map_or(0.0, |it| it.rating / SCALE);
        let (hour, hour_bad) = given.within(now, DAY / 24.0);
        let (of_hour, of_hour_bad) = received.within(now, DAY / 24.0);
        let count = received.ratings.len().min(LATEST) as f64;
        let row = [
            (mean / SCALE + given.above(mean) / SCALE + received.above(mean) / SCALE) * 4.0,
            flag(back.is_some()),
            back.map_or(0.0, |it| it.0) / SCALE * 2.0,
            flag(back.is_some_and(|it| it.0 < 0.0)),
            back.map_or(0.0, |it| days(now - it.1)),
            flag(before.is_some()),
            before.map_or(0.0, |it| it.0) / SCALE * 2.0,
            libm::log1p(trusted) / 2.0,
            trust / (trusted + 1.0) * 2.0,
            said / (trusted + 1.0) * 2.0,
            libm::log1p(rated) / 2.0,
            opinion / (rated + 1.0) * 2.0,
            libm::log1p(common) / 2.0,
            alike / (common + 1.0) * 2.0,
            libm::log1p(judges) / 2.0,
            verdicts / (judges + 1.0) * 2.0,
            weighed / (weights + 1.0) * 2.0,
            surprise / (count + 1.0) * 2.0,
            last(given) * 2.0,
            last(received) * 2.0,
            libm::log1p(hour) / 2.0,
            libm::log1p(hour_bad),
            libm::log1p(of_hour) / 2.0,
            libm::log1p(of_hour_bad),
            flag(given.count() == 0.0 && received.count() == 0.0),
            flag(received.count() == 0.0),
            given.above(mean) / SCALE * 4.0 * flag(received.count() == 0.0),
            given.negative_share(negative) * 2.0 * flag(received.count() == 0.0),
            given.negative_share(negative) * received.negative_share(negative) * 4.0,
            flag(last(received) < 0.0),
            flag(last(given) < 0.0),
            negative * 4.0,
            flag(back.is_some_and(|it| now - it.1 < DAY)),
            flag(back.is_some_and(|it| (0.0..2.0).contains(&it.0))),
            flag(self.received[source as usize].count() == 0.0),
            self.received[source as usize].above(mean) / SCALE * 4.0 * flag(back.is_none()),
            opinion.min(0.0),
            trust.min(0.0),
        ];
        row.map(|value| value as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(source: u32, target: u32, weight: f32, time: f64) -> Edge {
        Edge { source, target, weight, time }
    }

    #[test]
    fn a_state_knows_means_answers_and_what_lies_between() {
        let mut state = StreamState::new(4);
        let stranger = state.pair(0, 1, 0.0);
        assert_eq!((stranger[1], &stranger[24..26]), (0.0, &[1.0, 1.0][..]));
        for edge in [edge(0, 1, 4.0, 0.0), edge(2, 1, -8.0, DAY), edge(1, 0, 1.0, 2.0 * DAY)] {
            state.take(&edge);
        }
        assert_eq!(state.mean(), -1.0);
        assert!((state.target_mean(1) - (-1.0 + (-4.0 + 2.0) / 4.0)).abs() < 1e-12);
        assert!((state.both_means(0, 1) - (state.target_mean(1) + 5.0 / 3.0)).abs() < 1e-12);
        let pair = state.pair(0, 1, 3.0 * DAY);
        // It was answered by a 1 a day ago, and said a 4 of the target before.
        assert_eq!((pair[1], pair[2], pair[3], pair[5], pair[6]), (1.0, 0.2, 0.0, 1.0, 0.8));
        assert!((f64::from(pair[4]) - libm::log1p(1.0) / 4.0).abs() < 1e-6);
        // 2 rates 0: of those who rated 0, it rated 1, badly, who said a 1.
        let pair = state.pair(2, 0, 3.0 * DAY);
        assert!(pair[7] > 0.0 && (f64::from(pair[8]) - -8.0 * 1.0 / 100.0 / 2.0 * 2.0).abs() < 1e-6, "{pair:?}");
        let user = state.user(1, 3.0 * DAY);
        assert!((f64::from(user[9]), user[0], user[1]) == (0.0, 0.0, 0.0) && user[8] > 0.0);
        assert_eq!(
            (state.recent_neighbours(1, 8), state.recent_neighbours(1, 1), state.recent_neighbours(3, 8)),
            (vec![0, 2], vec![0], vec![])
        );
    }
}
