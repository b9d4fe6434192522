//! Everything that can be wrong with an input, with the numbers that show it.

mod picture;

pub use picture::PictureError;

/// The result of a kernel.
pub type Result<T> = std::result::Result<T, Error>;

/// One kind of mistake a caller can make.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// A number is out of its range.
    #[error("{name} is {value}: give {expected}")]
    Range {
        /// The argument.
        name: &'static str,
        /// What was given.
        value: f64,
        /// What is allowed, as a phrase.
        expected: &'static str,
    },
    /// Two arguments contradict each other.
    #[error("{first} and {second} contradict each other: {reason}")]
    Contradiction {
        /// One of the two.
        first: &'static str,
        /// The other.
        second: &'static str,
        /// Why, and what to do.
        reason: &'static str,
    },
    /// A list that must hold something is empty.
    #[error("{name} is empty: give at least one")]
    Empty {
        /// The argument.
        name: &'static str,
    },
    /// A token id that the vocabulary does not have.
    #[error("{name} holds token {token}, outside the vocabulary: give ids in 0..{vocabulary}")]
    Token {
        /// The argument.
        name: &'static str,
        /// The id that was given.
        token: i64,
        /// The size of the vocabulary.
        vocabulary: usize,
    },
    /// A position that the noise cannot tell apart from another.
    #[error("row {row} has position {position}: give one in 0..4294967296")]
    Position {
        /// The row of the batch.
        row: usize,
        /// What was given.
        position: i64,
    },
    /// An array has another size than the others ask for.
    #[error("{name} has {given} {unit}, expected {expected}: pass one that fits the logits")]
    Shape {
        /// The argument.
        name: &'static str,
        /// What is counted.
        unit: &'static str,
        /// The size that was given.
        given: usize,
        /// The size that fits.
        expected: usize,
    },
    /// A logit is NaN.
    #[error("row {row} has NaN in column {column}: the model diverged, or a mask was multiplied instead of added")]
    NotANumber {
        /// The row of the batch.
        row: usize,
        /// The first such column.
        column: usize,
    },
    /// Two logits are +inf, so neither is more probable.
    #[error("row {row} has +inf in columns {first} and {second}: give +inf to one token at most")]
    TwoInfinities {
        /// The row of the batch.
        row: usize,
        /// The first column.
        first: usize,
        /// The second column.
        second: usize,
    },
    /// The only possible token of a row is forbidden.
    #[error("row {row} has +inf in column {column}, a token that may not be drawn: lift the ban or change the logits")]
    InfinityBanned {
        /// The row of the batch.
        row: usize,
        /// The banned column.
        column: usize,
    },
    /// Every token of a row is forbidden.
    #[error("row {row} has nothing that may be drawn: every token is -inf or banned, so loosen a constraint")]
    NothingLeft {
        /// The row of the batch.
        row: usize,
    },
    /// A drafted token that the vocabulary does not have.
    #[error("row {row} has token {token} drafted in place {place}: a drafter gives ids in 0..{vocabulary}")]
    DraftToken {
        /// The row of the batch.
        row: usize,
        /// The place in the block.
        place: usize,
        /// The id that was drafted.
        token: i64,
        /// The size of the vocabulary.
        vocabulary: usize,
    },
    /// A row says it drafted more tokens than it has places, or fewer than none.
    #[error("row {row} says it drafted {length} tokens: give a length in 0..={places}")]
    DraftLength {
        /// The row of the batch.
        row: usize,
        /// What was given.
        length: i64,
        /// How many places a row has.
        places: usize,
    },
    /// A drafted token whose parent does not stand before it.
    #[error("row {row} has parent {parent} in place {place}: give an earlier place, or -1 for what follows the text")]
    DraftParent {
        /// The row of the batch.
        row: usize,
        /// The place in the block.
        place: usize,
        /// The place that was given.
        parent: i64,
    },
    /// A sparse law that names a token twice.
    #[error("row {row}, place {place}: the drafter's law names token {token} twice, give each token once")]
    DraftTwice {
        /// The row of the batch.
        row: usize,
        /// The place in the block.
        place: usize,
        /// The token.
        token: i64,
    },
    /// A probability of the drafter that is none.
    #[error(
        "row {row}, place {place}: the drafter gives token {token} probability {probability}, expected one in [0, 1]"
    )]
    DraftProbability {
        /// The row of the batch.
        row: usize,
        /// The place in the block.
        place: usize,
        /// The token.
        token: i64,
        /// What was given.
        probability: f64,
    },
    /// A drafter drew a token that its own law calls impossible.
    #[error("row {row}, place {place}: the drafter drew token {token}, to which it gives probability 0")]
    DraftImpossible {
        /// The row of the batch.
        row: usize,
        /// The place in the block.
        place: usize,
        /// The token.
        token: usize,
    },
    /// Probabilities of the drafter that do not sum to one.
    #[error("row {row}, place {place}: the drafter's probabilities sum to {sum}, expected 1 within 1e-6")]
    DraftSum {
        /// The row of the batch.
        row: usize,
        /// The place in the block.
        place: usize,
        /// Their sum.
        sum: f64,
    },
    /// A row with this number is being decoded already.
    #[error("row {row} is already started: stop it first, or give another number")]
    RowStarted {
        /// The number of the row.
        row: i64,
    },
    /// No row has this number.
    #[error("row {row} is unknown: start it first")]
    UnknownRow {
        /// The number of the row.
        row: i64,
    },
    /// A token id that no vocabulary has.
    #[error("token {token} in place {place}: give ids in 0..2147483648")]
    TokenId {
        /// The place in the list.
        place: usize,
        /// The id that was given.
        token: i64,
    },
    /// More than an index can number.
    #[error("{name} would have {given} {unit}: {limit} is the most")]
    TooLarge {
        /// What is too large.
        name: &'static str,
        /// What is counted.
        unit: &'static str,
        /// The size it would have.
        given: usize,
        /// The largest size.
        limit: usize,
    },
    /// A document that does not fit a corpus even alone.
    #[error(
        "a document of {tokens} tokens needs at least {needed} bytes: raise the memory limit of {limit}, or cut it up"
    )]
    Memory {
        /// Its length.
        tokens: usize,
        /// What it needs.
        needed: usize,
        /// What the corpus may hold.
        limit: usize,
    },
    /// Bytes that are not a corpus.
    #[error("this corpus cannot be read: {reason}")]
    Corpus {
        /// What is wrong with them.
        reason: String,
    },
    /// A weight that is no number.
    #[error("weight {name} holds NaN or infinity in place {place}: the model diverged, or its file is broken")]
    Weight {
        /// Its name, without that of its block.
        name: &'static str,
        /// The first such place.
        place: usize,
    },
    /// A part of a model that does not fit the others.
    #[error("{name} has {given} entries, the configuration asks for {expected}: pass what belongs together")]
    Part {
        /// What does not fit.
        name: &'static str,
        /// The size that was given.
        given: usize,
        /// The size that fits.
        expected: usize,
    },
    /// More memory than there is.
    #[error("there is no memory for {bytes} bytes more of a cache: ask for fewer rows, or a smaller capacity")]
    Allocation {
        /// What was asked for.
        bytes: usize,
    },
    /// A call that has to wait for a tree, or has none to work on.
    #[error("{reason}")]
    Tree {
        /// What is missing, and what to do.
        reason: &'static str,
    },
    /// A mistake at one position of a row.
    #[error("at position {position}, {error}")]
    At {
        /// The position in the row.
        position: usize,
        /// What is wrong there.
        error: Box<Error>,
    },
    /// A score of a lattice that is NaN or +inf.
    #[error(
        "{name} of row {row} has {value} at position {position}, entry {place}: give numbers, and -inf to what cannot be"
    )]
    Score {
        /// The argument.
        name: &'static str,
        /// The row of the batch.
        row: usize,
        /// The position in the row.
        position: usize,
        /// The place among the numbers of that position.
        place: usize,
        /// What was given.
        value: f64,
    },
    /// A number that is NaN or infinite.
    #[error("{name} holds {value} in place {place}: give finite numbers")]
    NotFinite {
        /// The argument.
        name: &'static str,
        /// The first such place.
        place: usize,
        /// What was given.
        value: f64,
    },
    /// A list that has another length than the other arguments ask for.
    #[error("{name} has {given} {unit}, expected {expected}: pass arguments that fit each other")]
    Size {
        /// The argument.
        name: &'static str,
        /// What is counted.
        unit: &'static str,
        /// The size that was given.
        given: usize,
        /// The size that fits.
        expected: usize,
    },
    /// A picture, a film or a grid of patches that is none.
    #[error(transparent)]
    Picture(PictureError),
    /// A code number that there is none for.
    #[error("{name} holds {value} in place {place}: give numbers in 0..{limit}")]
    Code {
        /// The argument.
        name: &'static str,
        /// The first such place.
        place: usize,
        /// What was given.
        value: i64,
        /// How many numbers there are.
        limit: u64,
    },
    /// A file that cannot be read or written.
    #[error("{path} cannot be {action}: {reason}")]
    File {
        /// Where it is.
        path: String,
        /// "read" or "written".
        action: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// The class of errors a caller would catch together; the binding maps each to one Python class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A value is out of its range, or two contradict each other.
    InvalidArgument,
    /// Sizes do not fit each other.
    Shape,
    /// A row of logits that no token can be drawn from.
    Logits,
    /// A drafter returned something that no drafter may return.
    Draft,
    /// A request larger than what is allowed.
    Limit,
    /// A file that is missing, broken or foreign.
    Checkpoint,
}

impl Error {
    /// The class of this mistake.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Range { .. }
            | Self::Contradiction { .. }
            | Self::Empty { .. }
            | Self::Token { .. }
            | Self::Position { .. }
            | Self::RowStarted { .. }
            | Self::UnknownRow { .. }
            | Self::TokenId { .. }
            | Self::NotFinite { .. }
            | Self::Code { .. }
            | Self::Weight { .. }
            | Self::Tree { .. } => Kind::InvalidArgument,
            Self::Shape { .. } | Self::Part { .. } | Self::Size { .. } => Kind::Shape,
            Self::Picture(error) => error.kind(),
            Self::At { error, .. } => error.kind(),
            Self::NotANumber { .. }
            | Self::TwoInfinities { .. }
            | Self::InfinityBanned { .. }
            | Self::Score { .. }
            | Self::NothingLeft { .. } => Kind::Logits,
            Self::DraftToken { .. }
            | Self::DraftLength { .. }
            | Self::DraftParent { .. }
            | Self::DraftTwice { .. }
            | Self::DraftProbability { .. }
            | Self::DraftImpossible { .. }
            | Self::DraftSum { .. } => Kind::Draft,
            Self::TooLarge { .. } | Self::Memory { .. } | Self::Allocation { .. } => Kind::Limit,
            Self::Corpus { .. } | Self::File { .. } => Kind::Checkpoint,
        }
    }
}
