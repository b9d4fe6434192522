//! The look-up drafters as their definitions read: rescans of the whole text, which are slow and obviously right.

use foretoken_core::suffix::Guess;

/// What `NGram::propose` promises, by rescanning.
pub fn ngram_by_rescan(text: &[i64], max_n: usize, min_n: usize, k: usize) -> (Vec<i64>, usize) {
    for n in (min_n..=max_n).rev().filter(|&n| n < text.len()) {
        let gram = &text[text.len() - n..];
        if let Some(place) = (n..text.len()).rev().find(|&end| &text[end - n..end] == gram) {
            let mut copy = text.to_vec();
            (0..k).for_each(|step| copy.push(copy[place + step]));
            return (copy.split_off(text.len()), n);
        }
    }
    (Vec::new(), 0)
}

/// The longest end of `text`, of at most `limit` tokens, that something followed in the sources, and what followed, in order.
fn followers(text: &[i64], sources: &[&[i64]], limit: usize) -> (usize, Vec<i64>) {
    for length in (1..=limit.min(text.len())).rev() {
        let context = &text[text.len() - length..];
        let mut found = Vec::new();
        for source in sources {
            found.extend(source.windows(length + 1).filter(|window| &window[..length] == context).map(|w| w[length]));
        }
        if !found.is_empty() {
            return (length, found);
        }
    }
    (0, Vec::new())
}

/// What `Suffix::propose` promises, by rescanning.
pub fn suffix_by_rescan(text: &[i64], corpus: &[&[i64]], max_match: usize, min_match: usize, k: usize) -> Guess {
    let mut guess = Guess::default();
    let mut whole = text.to_vec();
    for step in 0..k {
        let (own, shared) = (followers(&whole, &[text], max_match), followers(&whole, corpus, max_match));
        let (length, found) = if shared.0 > own.0 { shared } else { own };
        if length < min_match || length == 0 {
            break;
        }
        let count = |token: i64| found.iter().filter(|&&other| other == token).count();
        // The last of the maxima is the one that was seen last.
        let best = *found.iter().max_by_key(|&&token| count(token)).expect("something followed");
        let most = count(best);
        let token = *found.iter().rev().find(|&&token| count(token) == most).expect("the best one");
        if step == 0 {
            guess.match_length = length;
        }
        guess.tokens.push(token);
        guess.probabilities.push(most as f64 / found.len() as f64);
        whole.push(token);
    }
    guess
}
