//! Weights: the shares of a route's backends become small weights of nodes.
//!
//! A backend's weight is shared equally by its endpoints. Exact node weights are kept as integers over one common unit
//! (u128); equal nodes of different backends are summed before anything is rounded. Data planes want small weights (they
//! loop over their sum on retries), so nodes get 1..=100, or 1..=1000 where 100 would be off by more than one percentage
//! point of any backend's share. No node with a share is rounded to 0.

use std::{collections::BTreeMap, net::SocketAddr};

/// One backend with something to share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Its weight, at least 1.
    pub weight: u64,
    /// Its endpoints, without repeats, at least one.
    pub nodes: Vec<SocketAddr>,
}

/// Node weights, and whether they are rounded by more than one percentage point of any backend's share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fitted {
    /// Weight by node, in the order of addresses.
    pub nodes: BTreeMap<SocketAddr, u32>,
    /// Whether any backend's share errs by more than one percentage point.
    pub rounded: bool,
}

/// Largest weight of a node where it is precise enough.
const SMALL_MAX: u32 = 100;
/// Largest weight of a node otherwise.
const LARGE_MAX: u32 = 1000;
/// One percentage point: a rounding error that nobody needs to hear of.
const POINT: f64 = 0.01;

/// Above this the least common multiple of endpoint counts gives way to [`FIXED_UNIT`]: a weight (32 bits), times the unit,
/// summed over up to 2^12 backends, must stay within 128 bits.
const UNIT_MAX: u128 = 1 << 80;
/// A unit that is not exact, but off by less than one part in 2^48 of any share.
const FIXED_UNIT: u128 = UNIT_MAX;

/// Largest weight taken at its word; Gateway API allows 1,000,000, manifests in a folder may say anything.
pub(super) const WEIGHT_MAX: u64 = u32::MAX as u64;

/// Fits the shares. An empty list gives no nodes.
#[must_use]
pub fn fit(shares: &[Share]) -> Fitted {
    let groups = groups(shares);
    let Some(largest) = groups.iter().map(|group| group.exact).max() else { return Fitted::default() };
    let common = groups.iter().fold(0, |common, group| gcd(common, group.exact));
    let targets = targets(shares);

    let exact: Option<Vec<u32>> = (largest / common <= u128::from(SMALL_MAX))
        .then(|| groups.iter().map(|group| u32::try_from(group.exact / common).unwrap_or(u32::MAX)).collect());
    let (weights, error) = match exact {
        Some(weights) => (weights, 0.0),
        None => best(&groups, largest, &targets),
    };
    let nodes = groups
        .iter()
        .zip(&weights)
        .flat_map(|(group, &weight)| group.nodes.iter().map(move |&node| (node, weight)))
        .collect();
    Fitted { nodes, rounded: error > POINT }
}

/// Nodes that belong to the same backends, and so have the same weight.
struct Group {
    nodes: Vec<SocketAddr>,
    /// What each of its backends gives to one of these nodes, in common units.
    parts: Vec<(usize, u128)>,
    /// The sum of the parts.
    exact: u128,
}

fn groups(shares: &[Share]) -> Vec<Group> {
    let unit = shares
        .iter()
        .map(|share| share.nodes.len() as u128)
        .try_fold(1_u128, |unit, count| lcm(unit, count).filter(|unit| *unit <= UNIT_MAX))
        .unwrap_or(FIXED_UNIT);
    let mut backends_of: BTreeMap<SocketAddr, Vec<usize>> = BTreeMap::new();
    for (backend, share) in shares.iter().enumerate() {
        for node in &share.nodes {
            backends_of.entry(*node).or_default().push(backend);
        }
    }
    let mut by_backends: BTreeMap<Vec<usize>, Vec<SocketAddr>> = BTreeMap::new();
    for (node, backends) in backends_of {
        by_backends.entry(backends).or_default().push(node);
    }
    by_backends
        .into_iter()
        .map(|(backends, nodes)| {
            let part = |backend: usize| {
                let share = shares.get(backend)?;
                let weight = u128::from(share.weight.min(WEIGHT_MAX));
                Some((backend, weight * unit / (share.nodes.len() as u128).max(1)))
            };
            let parts: Vec<(usize, u128)> = backends.into_iter().filter_map(part).collect();
            let exact = parts.iter().map(|(_, part)| part).sum();
            Group { nodes, parts, exact }
        })
        .collect()
}

/// Each backend's share of the whole, 0 to 1.
#[expect(clippy::cast_precision_loss, reason = "weights are at most 2^32, exact in an f64")]
fn targets(shares: &[Share]) -> Vec<f64> {
    let weight = |share: &Share| share.weight.min(WEIGHT_MAX) as f64;
    let total: f64 = shares.iter().map(weight).sum();
    shares.iter().map(|share| weight(share) / total).collect()
}

/// The weights with the smallest greatest error over every scale up to [`SMALL_MAX`], or up to [`LARGE_MAX`] where that is
/// off by more than a point; of equally good scales, the smallest.
fn best(groups: &[Group], largest: u128, targets: &[f64]) -> (Vec<u32>, f64) {
    let at = |scale: u32| {
        let weights: Vec<u32> = groups.iter().map(|group| scaled(group.exact, largest, scale)).collect();
        let error = worst_error(groups, &weights, targets);
        (weights, error)
    };
    let smallest = |best: (Vec<u32>, f64), next: (Vec<u32>, f64)| if next.1 < best.1 { next } else { best };
    let small = (2..=SMALL_MAX).map(at).fold(at(1), smallest);
    if small.1 <= POINT { small } else { (SMALL_MAX + 1..=LARGE_MAX).map(at).fold(small, smallest) }
}

/// `exact / largest * scale`, rounded to the nearest, at least 1.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a ratio of 0 to 1 times at most 1000; the last bits of the ratio do not matter"
)]
fn scaled(exact: u128, largest: u128, scale: u32) -> u32 {
    let ratio = exact as f64 / largest as f64;
    ((ratio * f64::from(scale)).round() as u32).max(1)
}

/// The greatest difference, over all backends, between the share it gets and the share it should get.
#[expect(clippy::cast_precision_loss, reason = "ratios of parts; the last bits do not matter")]
fn worst_error(groups: &[Group], weights: &[u32], targets: &[f64]) -> f64 {
    let mut got = vec![0.0; targets.len()];
    let mut total = 0.0;
    for (group, &weight) in groups.iter().zip(weights) {
        let weight = f64::from(weight) * group.nodes.len() as f64;
        total += weight;
        for (backend, part) in &group.parts {
            if let Some(got) = got.get_mut(*backend) {
                *got += weight * (*part as f64 / group.exact as f64);
            }
        }
    }
    got.iter().zip(targets).map(|(got, target)| (got / total - target).abs()).fold(0.0, f64::max)
}

fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn lcm(a: u128, b: u128) -> Option<u128> {
    (a / gcd(a, b).max(1)).checked_mul(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node(number: usize) -> SocketAddr {
        SocketAddr::from(([10, 0, u8::try_from(number / 256).unwrap(), u8::try_from(number % 256).unwrap()], 80))
    }

    /// Backends of `(weight, endpoints)` with no endpoint in common.
    fn shares(backends: &[(u64, usize)]) -> Vec<Share> {
        let mut next = 0..;
        backends
            .iter()
            .map(|&(weight, count)| Share { weight, nodes: next.by_ref().take(count).map(node).collect() })
            .collect()
    }

    #[track_caller]
    fn check(backends: &[(u64, usize)], want: &[u32]) {
        let fitted = fit(&shares(backends));
        assert_eq!(fitted.nodes.into_values().collect::<Vec<_>>(), want);
        assert!(!fitted.rounded);
    }

    #[test]
    fn shares_that_fit_are_exact_and_reduced() {
        check(&[], &[]);
        check(&[(1, 1)], &[1]);
        check(&[(1_000_000, 3)], &[1, 1, 1]);
        check(&[(70, 1), (30, 1)], &[7, 3]);
        check(&[(1, 2), (1, 3)], &[3, 3, 2, 2, 2]);
        check(&[(100, 1), (1, 1)], &[100, 1]);
    }

    #[test]
    fn a_backend_with_many_endpoints_keeps_its_share_beside_one_with_few() {
        // 1:1 over 1 and 300 endpoints needs 300:1, past the small limit but exact within the large one.
        let fitted = fit(&shares(&[(1, 1), (1, 300)]));
        assert_eq!(fitted.nodes.get(&node(0)), Some(&300));
        assert!(fitted.nodes.values().skip(1).all(|&weight| weight == 1));
        assert!(!fitted.rounded);
    }

    #[test]
    fn a_tiny_share_is_never_rounded_away() {
        let fitted = fit(&shares(&[(1, 1), (999_999, 1)]));
        assert_eq!(fitted.nodes.into_values().collect::<Vec<_>>(), [1, 100]);
        assert!(!fitted.rounded, "off by 0.99 points");
    }

    #[test]
    fn what_cannot_be_fitted_says_so() {
        // 1:1 over 1 and 3000 endpoints would need 3000:1.
        let fitted = fit(&shares(&[(1, 1), (1, 3000)]));
        assert_eq!(fitted.nodes.get(&node(0)), Some(&LARGE_MAX));
        assert!(fitted.rounded);
    }

    #[test]
    fn an_endpoint_of_two_backends_gets_both_shares() {
        let both = vec![Share { weight: 1, nodes: vec![node(1), node(2)] }, Share { weight: 1, nodes: vec![node(1)] }];
        assert_eq!(fit(&both).nodes, BTreeMap::from([(node(1), 3), (node(2), 1)]));
    }

    #[test]
    fn endpoint_counts_without_a_small_common_multiple_do_not_overflow() {
        // The least common multiple of these 16 primes times 2^32 would need far more than 128 bits.
        let primes = [1009, 1013, 1019, 1021, 1031, 1033, 1039, 1049, 1051, 1061, 1063, 1069, 1087, 1091, 1093, 1097];
        let fitted = fit(&shares(&primes.map(|prime| (1_000_000, prime))));
        assert_eq!(fitted.nodes.len(), primes.iter().sum::<usize>());
        assert!(!fitted.rounded);
    }

    proptest! {
        #[test]
        fn weights_stay_within_bounds_and_keep_their_order(
            backends in prop::collection::vec((1_u64..=1_000_000, 1_usize..40), 1..16)
        ) {
            let shares = shares(&backends);
            let fitted = fit(&shares);
            prop_assert!(fitted.nodes.values().all(|weight| (1..=LARGE_MAX).contains(weight)));
            let per_node = |share: &Share| u128::from(share.weight) * 1_000_000 / share.nodes.len() as u128;
            let weight = |share: &Share| fitted.nodes[&share.nodes[0]];
            for one in &shares {
                for other in &shares {
                    if per_node(one) > per_node(other) {
                        prop_assert!(weight(one) >= weight(other));
                    }
                }
            }
        }

        #[test]
        fn unless_it_says_so_no_share_errs_by_more_than_a_point(
            backends in prop::collection::vec((1_u64..=1_000_000, 1_usize..40), 1..16)
        ) {
            let shares = shares(&backends);
            let fitted = fit(&shares);
            let total: u64 = fitted.nodes.values().map(|&weight| u64::from(weight)).sum();
            let asked: u64 = shares.iter().map(|share| share.weight).sum();
            for share in &shares {
                let got: u64 = share.nodes.iter().map(|node| u64::from(fitted.nodes[node])).sum();
                #[expect(clippy::cast_precision_loss, reason = "a test of ratios")]
                let error = (got as f64 / total as f64 - share.weight as f64 / asked as f64).abs();
                prop_assert!(fitted.rounded || error <= POINT + 1e-9, "{error}");
            }
        }
    }
}
