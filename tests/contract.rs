//! One contract for every store: etcd of Debian, etcd 3.6 and the store in memory are asked the same and must answer the same.
//!
//! Each test is a function over [`Hands`] and runs once for each store, as `memory::NAME`, `etcd34::NAME`, `etcd36::NAME`.

#[path = "contract/hands.rs"]
mod hands;
#[path = "contract/leases.rs"]
mod leases;
#[path = "contract/reads.rs"]
mod reads;
mod support;
#[path = "contract/transactions.rs"]
mod transactions;
#[path = "contract/watches.rs"]
mod watches;

use hands::{Debian, Hands, Memory, Newer};

/// Where a test runs: beside others in a store that is shared, or alone in one of its own.
macro_rules! contract {
    ($(beside $area:ident: $($name:ident)*;)* $(alone $lonely_area:ident: $($lonely:ident)*;)*) => {
        contract!(@ memory Memory, $($area $($name)*;)* ! $($lonely_area $($lonely)*;)*);
        contract!(@ etcd34 Debian, $($area $($name)*;)* ! $($lonely_area $($lonely)*;)*);
        contract!(@ etcd36 Newer, $($area $($name)*;)* ! $($lonely_area $($lonely)*;)*);
    };
    (@ $module:ident $store:ident, $($area:ident $($name:ident)*;)* ! $($lonely_area:ident $($lonely:ident)*;)*) => {
        mod $module {
            use super::*;

            $($(
                #[tokio::test]
                async fn $name() -> anyhow::Result<()> {
                    $area::$name($store::shared(stringify!($name)).await?).await
                }
            )*)*
            $($(
                #[tokio::test]
                async fn $lonely() -> anyhow::Result<()> {
                    $lonely_area::$lonely($store::alone(stringify!($lonely)).await?).await
                }
            )*)*
        }
    };
}

contract! {
    beside transactions:
        writes_happen_together_at_the_revision_that_is_answered
        a_key_keeps_its_creation_and_counts_its_writes_until_it_is_deleted
        a_lost_compare_writes_nothing_and_tells_every_key_as_it_is
        written_keys_are_told_before_conditions_each_in_their_order
        a_condition_that_holds_lets_writes_pass_and_stays_as_it_is
        under_a_fence_that_is_gone_or_was_created_anew_nothing_is_written
        a_fence_that_was_only_written_again_still_stands
        a_lost_fence_is_told_before_a_lost_compare
        a_fence_without_a_creation_stands_while_there_is_no_such_key
        as_many_operations_as_are_allowed_are_taken_and_no_more
        a_transaction_reckoned_at_the_limit_of_size_is_taken
        a_transaction_that_is_too_large_is_refused
        a_key_put_twice_is_refused
        of_two_racing_transactions_one_wins;
    beside reads:
        pages_are_cut_at_one_revision_while_writes_go_on
        a_page_that_just_fits_is_the_last
        of_keys_only_no_values_are_read
        an_empty_scope_has_no_keys_and_a_revision
        a_scope_holds_its_keys_and_no_neighbours
        a_page_of_many_megabytes_is_read
        the_store_keeps_its_id
        a_revision_yet_to_come_cannot_be_read;
    beside watches:
        changes_come_in_order_from_the_revision_asked_for_each_revision_whole
        many_changes_of_one_revision_come_in_one_batch
        large_revisions_come_whole_although_they_were_missed_together
        a_watch_hears_its_scope_and_no_neighbours
        two_watches_hear_the_same
        a_watch_that_is_asked_and_left_again_and_again_loses_nothing;
    beside leases:
        a_claim_is_won_where_nobody_holds_the_key
        a_claim_is_lost_to_whoever_holds_the_key
        a_lease_that_is_revoked_takes_its_keys_along_at_one_revision
        a_lease_that_has_ended_is_neither_renewed_nor_claimed_with_but_may_be_revoked
        a_lease_that_nobody_renews_ends_and_one_that_is_renewed_does_not
        a_fence_falls_with_its_lease_and_the_next_leader_has_another
        a_key_written_without_its_lease_outlives_it
        a_lease_for_longer_than_a_lifetime_is_refused;

    alone transactions:
        what_changes_nothing_makes_no_revision
        a_full_store_refuses_puts_and_leases_and_nothing_else;
    alone reads:
        what_is_compacted_cannot_be_read_on;
    alone watches:
        a_watch_cannot_begin_at_a_revision_that_is_compacted
        a_deletion_after_a_read_is_not_missed_although_its_revision_was_compacted
        a_watch_from_a_revision_yet_to_come_is_silent_until_then;
}
