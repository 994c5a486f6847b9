//! `checkpoint show` and `checkpoint reset`: what etcd was last written from, and letting a controller go on that stopped at
//! it.
//!
//! Showing writes nothing. Resetting asks a person first, unless told not to.

pub mod reset;

use super::{Outcome, complain, with_store};
use crate::{
    config::{
        args::OutputFormat,
        settings::control::{CheckpointResetSettings, CheckpointShowSettings, ControlSettings},
    },
    show::{
        checkpoint::{ShownCheckpoint, ShownRecord, render},
        print, table,
    },
    store::{
        ReadError,
        control::ControlKeys,
        etcd::EtcdStore,
        records::{read_leader, read_records},
    },
};
use reset::{Reset, reset};
use std::{
    io::{self, IsTerminal as _},
    sync::Arc,
};

/// Prints the checkpoint.
#[must_use]
pub fn show(settings: &CheckpointShowSettings) -> Outcome {
    let CheckpointShowSettings { control, output } = settings;
    with_store(&control.etcd, async |store| match look(&store, control).await {
        Ok(shown) => {
            let text = match output {
                OutputFormat::Table => render(&shown, table::terminal_width()),
                OutputFormat::Json | OutputFormat::Yaml => super::structured(&shown, *output),
            };
            print(&text);
            if shown.unusable() { Outcome::Refused } else { Outcome::Done }
        }
        Err(error) => unreadable(&error),
    })
}

async fn look(store: &EtcdStore, control: &ControlSettings) -> Result<ShownCheckpoint, ReadError> {
    let keys = keys(control);
    let (leader, _) = read_leader(store, &keys).await?;
    let records = read_records(store, &keys).await?;
    let ControlSettings { etcd: _, control_prefix, instance } = control;
    Ok(ShownCheckpoint::new(instance, control_prefix, leader.as_ref(), &records))
}

/// Replaces the checkpoint by one that any cluster may follow.
#[must_use]
pub fn execute_reset(settings: &CheckpointResetSettings) -> Outcome {
    let CheckpointResetSettings { control, timeout, confirmed } = settings;
    with_store(&control.etcd, async |store| {
        let shown = match look(&store, control).await {
            Ok(shown) => shown,
            Err(error) => return unreadable(&error),
        };
        if !confirmed && let Err(outcome) = confirm(&shown) {
            return outcome;
        }
        let waiting = |leader: &str| eprintln!("waiting up to {timeout:?} for {leader}, which leads, to end");
        match reset(&store, &keys(control), *timeout, waiting).await {
            Ok(reset) => {
                print(&done(control, &reset));
                Outcome::Done
            }
            Err(error) => {
                complain(&error);
                if error.unreachable() { Outcome::Unusable } else { Outcome::Refused }
            }
        }
    })
}

/// Asks the person in front of the terminal.
fn confirm(shown: &ShownCheckpoint) -> Result<(), Outcome> {
    if !io::stdin().is_terminal() {
        eprintln!("error: nobody can be asked here, for standard input is no terminal: say --yes");
        return Err(Outcome::Unusable);
    }
    eprint!("{}", question(shown));
    let mut answer = String::new();
    match io::stdin().read_line(&mut answer) {
        Ok(_) if matches!(answer.trim(), "y" | "Y" | "yes") => Ok(()),
        Ok(_) | Err(_) => {
            eprintln!("nothing was reset");
            Err(Outcome::Refused)
        }
    }
}

fn question(shown: &ShownCheckpoint) -> String {
    let ShownCheckpoint { instance, control_prefix, newest, lanes, .. } = shown;
    let newest = lanes.iter().find(|lane| Some(lane.lane) == *newest).and_then(|lane| lane.record.as_ref());
    let recorded = match newest {
        Some(ShownRecord { cluster, written_at, .. }) if cluster.is_empty() => {
            format!("It was reset at {written_at}, and nothing was written since.")
        }
        Some(ShownRecord { cluster, written_at, holder, .. }) => {
            format!("It was last written by {holder} at {written_at}, from cluster {cluster}.")
        }
        None => "Its newest record cannot be read.".to_owned(),
    };
    format!(
        "This is about the checkpoint of instance {instance} below {control_prefix}. {recorded}\n\
         After a reset the next controller of this name writes whatever its cluster says, and deletes what that lacks.\n\
         Go on? [y/N] "
    )
}

fn done(control: &ControlSettings, reset: &Reset) -> String {
    let ControlSettings { etcd: _, control_prefix, instance } = control;
    let Reset { n_deleted, n_unread } = reset;
    let deleted = match n_deleted {
        0 => String::new(),
        n => format!("Older records deleted: {n}.\n"),
    };
    let unread = match n_unread {
        0 => String::new(),
        n => format!(
            "Records that could not be read: {n}. Prefixes that only they named are not known any more: until that \
             controller has written there, documents without an intact seal count as foreign.\n"
        ),
    };
    format!(
        "The checkpoint of instance {instance} below {control_prefix} is reset: the next controller of \
         this name goes on with its cluster as it is.\n{deleted}{unread}"
    )
}

fn keys(control: &ControlSettings) -> ControlKeys {
    ControlKeys::new(Arc::clone(&control.control_prefix), Arc::clone(&control.instance))
}

fn unreadable(error: &ReadError) -> Outcome {
    complain(error);
    Outcome::Unusable
}
