//! Messages of a sumcheck that are committed to instead of sent, and the transcript both sides follow
//! (`STATEMENT.md`, section 6).

use ff::Field;
use pasta_curves::{EqAffine, Fp};
use rand_chacha::ChaCha20Rng;

use crate::columns::{Committed, Randomness};
use crate::conduct::{Conduct, Draw, Sent};
use crate::hash::{Absorb, Digest, Tag};
use crate::key::{CommitmentKey, MESSAGE_ROWS, UNUSABLE};
use crate::points::affine;

/// A digest of all messages so far.
#[derive(Clone, Debug)]
pub(crate) struct FiatShamir {
    pub(crate) digest: Digest,
    /// What forgers in tests know too early.
    pub(crate) early: Option<Draw>,
}

impl FiatShamir {
    /// Takes in the commitment to a message, and draws what must come after it.
    pub(crate) fn draw<const N: usize>(&mut self, point: &EqAffine, draws: [Draw; N]) -> [Fp; N] {
        let digest = self.digest;
        let before = || Absorb::new(Tag::Message).digest(&digest);
        let after = || before().points(std::slice::from_ref(point));
        let challenges: [Fp; N] = after().challenges();
        self.digest = after().finish();
        std::array::from_fn(|i| match draws[i].is_early(self.early) {
            true => before().challenges::<N>()[i],
            false => challenges[i],
        })
    }
}

/// The prover's side: what it sent, and nothing may print.
pub(crate) struct Sender<'a> {
    pub(crate) key: &'a CommitmentKey,
    pub(crate) transcript: FiatShamir,
    pub(crate) random: ChaCha20Rng,
    pub(crate) conduct: Conduct<'a>,
    /// Of all messages, one after another.
    pub(crate) scalars: Vec<Fp>,
    /// One per message.
    pub(crate) committed: Vec<Committed>,
}

impl<'a> Sender<'a> {
    /// Who has not sent anything.
    pub(crate) fn new(
        key: &'a CommitmentKey,
        transcript: FiatShamir,
        random: ChaCha20Rng,
        conduct: Conduct<'a>,
    ) -> Self {
        Self { key, transcript, random, conduct, scalars: Vec::new(), committed: Vec::new() }
    }

    /// Commits to a message and draws what comes after it. The message is returned as it was sent.
    pub(crate) fn send<const S: usize, const N: usize>(
        &mut self,
        what: Sent,
        mut message: [Fp; S],
        draws: [Draw; N],
    ) -> ([Fp; S], [Fp; N]) {
        const { assert!(S <= MESSAGE_ROWS) };
        (self.conduct.send)(what, &mut message);
        let blind = Fp::random(&mut self.random);
        let bases = self.key.bases();
        let terms = message.iter().zip(&bases.first).map(|(scalar, base)| base.times(scalar));
        let point = affine(&[terms.fold(bases.blind.times(&blind), |sum, term| sum + term)])[0];
        self.scalars.extend(message);
        self.committed.push(Committed { point, randomness: Randomness { unusable: [Fp::ZERO; UNUSABLE], blind } });
        (message, self.transcript.draw(&point, draws))
    }
}
