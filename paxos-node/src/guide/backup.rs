//! Backups, new clusters from them, nodes that are replaced, and a majority that is lost.
//!
//! A cluster outlives its disks as long as a majority of them is there. Backups are for what that does not
//! cover: a command that should not have been sent, a fire, a test with real data.
//!
//! | what has happened | what to do | what is lost |
//! |---|---|---|
//! | one node of three, or two of five, is lost | [replace it](#replace-a-node), while the cluster serves | nothing |
//! | the majority is lost, some disk is left | [rescue](#rescue-what-is-left) | what only the lost nodes knew |
//! | all disks are lost, or the data is wrong | [restore a backup](#restore-a-backup) | all since the backup |
//!
//! # Take a backup
//!
//! On any machine that reaches the nodes' ports for peers, with `ca.pem`, `admin.pem` and `admin-key.pem` in
//! `certs`:
//!
//! ```sh
//! paxos-node backup --via a:9001,b:9001,c:9001 --certs certs --out today.backup
//! ```
//!
//! It is the state after one slot: all that was acknowledged before the command, and no transaction by
//! halves. A learner or a follower gives it; the leader only if nobody else can be asked, or if `--node`
//! names it. Nobody waits for it: the node writes its picture to a file without a name in its data directory,
//! as fast as the disk takes it, and gives that out in pieces. So its volume needs as much room as the state
//! takes, beside an eighth of the volume (a GiB at most) that is left to the log; without it, another node is
//! asked. While the picture is written, the node keeps old values of what is changed, as for any snapshot.
//!
//! `today.backup` has its name when all of it is on the disk, and only its owner may read it. A file of that
//! name is never overwritten without `--overwrite`, and then only by a whole backup.
//!
//! A cluster without a leader can't tell what is newest. `--stale` takes what the node has.
//!
//! # Check a backup
//!
//! ```sh
//! paxos-node backup verify today.backup
//! paxos-node backup verify today.backup --json | jq .slot
//! ```
//!
//! That needs no cluster, and as much memory as a node with this state, for it builds the state. It shows of
//! which cluster, slot and time the backup is, who the members were, how many keys there are, and the SHA-256
//! that `backup` printed, too, so that you may compare copies of the file. `sha256sum` prints another one: it
//! reads the end of the file as well, where this one stands. `format` is that of the file, not the level to
//! which a cluster is [finalized](super::upgrade). A file that was cut or altered is refused with the place,
//! and exit code 4. Do it where the file is kept, not only where it was made.
//!
//! The file is not encrypted: it holds all keys and values.
//!
//! # Every night
//!
//! ```sh
//! #!/bin/sh
//! # /usr/local/bin/paxos-backup
//! set -eu
//! PATH=/usr/local/bin:/usr/bin:/bin       # cron may not look where paxos-node is
//! cd /var/backups/paxos
//! file=$(date +%F).backup
//! paxos-node backup --via a:9001,b:9001,c:9001 --certs /etc/paxos-node/admin --out "$file" --overwrite
//! paxos-node backup verify "$file"
//! find . \( -name '*.backup' -mtime +30 -o -name '.*.backup.*.part' -mtime +1 \) -delete
//! ```
//!
//! Once, as root, with `ca.pem`, `admin.pem` and `admin-key.pem` at hand:
//!
//! ```sh
//! install -d -m 700 /var/backups/paxos /etc/paxos-node/admin
//! install -m 600 ca.pem admin.pem admin-key.pem /etc/paxos-node/admin
//! chmod 755 /usr/local/bin/paxos-backup
//! ```
//!
//! Then have it run by a line in `/etc/crontab`, `17 3 * * * root /usr/local/bin/paxos-backup`, or by a timer
//! of systemd, which `systemctl enable --now paxos-backup.timer` starts:
//!
//! ```text
//! # /etc/systemd/system/paxos-backup.service
//! [Unit]
//! Description=Backup of paxos-node
//! [Service]
//! Type=oneshot
//! ExecStart=/usr/local/bin/paxos-backup
//!
//! # /etc/systemd/system/paxos-backup.timer
//! [Timer]
//! OnCalendar=*-*-* 03:17
//! Persistent=true
//! [Install]
//! WantedBy=timers.target
//! ```
//!
//! The script ends with an error if anything is wrong, and deletes old files only after a new one was
//! checked. Have somebody hear of errors: cron mails what the script prints, after good nights, too; with
//! systemd the service has failed (`systemctl is-failed paxos-backup`), and its `OnFailure=` may start what
//! tells you.
//!
//! A backup that is stopped leaves nothing behind. One that is killed, or whose machine is, leaves a hidden
//! file that ends with `.part`, which the script deletes a day later.
//!
//! # Restore a backup
//!
//! A backup founds a **new cluster**. Each of its founders gets the same file and an empty directory, under
//! its own id, on its own machine:
//!
//! ```sh
//! paxos-node restore --from today.backup --id 1 --data data      # --id 2 and --id 3 on the others
//! paxos-node serve --id 1 --peers 1=a:9001,2=b:9001,3=c:9001 --listen a:9001 \
//!     --client 0.0.0.0:6379 --http 0.0.0.0:8001 --data data --certs certs
//! ```
//!
//! It may have any number of members, and any name: `--cluster NAME`, with certificates that were made for
//! that name (`paxos-node certs --cluster NAME`). Nothing can be read or written before all founders have
//! met. Founders that were restored from other files, under another name, with other `--raise-revisions`, or
//! not at all refuse each other, and their logs say `restored_from`. Nodes of the old cluster refuse those of
//! the new one, even if all have the same names: stop the old ones all the same, or clients may find either.
//!
//! What goes on from the backup:
//!
//! - **Revisions**, by which `PAXOS.FENCE` numbers grants, never go back below those in the backup. But the
//!   old cluster may have given higher ones after it. If anything outside remembers them, as whatever a lock
//!   protects does, have the new cluster begin above: `--raise-revisions 1000000000`, the same for all
//!   founders. There are 4 611 686 018 427 387 904.
//! - **Time** of the log: a key with a deadline that has passed since is gone at once. Deadlines that have
//!   not passed stay as they are.
//! - **Slots** are counted on. Sessions of programs that embed a node are not kept.
//!
//! Its epochs begin at 0, and its format level at the first, whatever the old cluster had: run
//! [`member finalize`](super::upgrade) when all founders have met.
//!
//! # Replace a node
//!
//! While a majority lives, no backup is needed. Say node 2 is lost. Where the CA's key is:
//!
//! ```sh
//! paxos-node certs --out certs --add 4
//! ```
//!
//! and on the new machine, with `ca.pem`, `node-4.pem` and `node-4-key.pem` in `certs`:
//!
//! ```sh
//! paxos-node format --id 4 --data data
//! paxos-node serve --id 4 --join a:9001,c:9001 --listen d:9001 \
//!     --client 0.0.0.0:6379 --http 0.0.0.0:8001 --data data --certs certs
//! ```
//!
//! and while that runs, wherever the operator's certificate is:
//!
//! ```sh
//! paxos-node member replace --id 2 --with 4 --address d:9001 --via a:9001,c:9001 --certs certs
//! ```
//!
//! # Rescue what is left
//!
//! The majority is lost for good, no disk of it can be read any more, and the newest backup is older than the
//! disk that is left. With a majority of *disks*, even on other machines, start their nodes instead.
//!
//! Stop the nodes that are left. Have their data directories where one command sees them all (a copy that is
//! brought back afterwards will do, as long as no node runs on the original meanwhile), and look:
//!
//! ```sh
//! paxos-node rescue plan data --out plan.json           # or: rescue plan data-1 data-5 --out plan.json
//! ```
//!
//! It changes nothing, and tells of each disk what it has promised and accepted and knows to be chosen, from
//! which one the log goes on, and what is lost: if the lost nodes could choose without those that are left,
//! nobody can tell what they acknowledged last. What was accepted on a disk and not known to be chosen is
//! kept, as a new leader would keep it. Then
//!
//! ```sh
//! paxos-node rescue apply plan.json                     # asks for the cluster's name
//! ```
//!
//! makes a membership of the nodes that are left, in a later epoch, a part of the log. In a script,
//! `--yes-i-am-sure NAME` gives the name. With any other name it changes nothing, and ends with exit code 2.
//! The directories must still be where `plan` has seen them.
//!
//! Start the nodes as before. They serve as soon as they are a majority of themselves: one node alone does.
//! Add new nodes one by one, under ids that were never used:
//!
//! ```sh
//! paxos-node certs --out certs --add 4                  # where the CA's key is
//! paxos-node format --id 4 --data data                  # on the new machine, with its certificate
//! paxos-node serve --id 4 --join a:9001 --listen d:9001 \
//!     --client 0.0.0.0:6379 --http 0.0.0.0:8001 --data data --certs certs
//! ```
//!
//! and while that runs, wherever the operator's certificate is:
//!
//! ```sh
//! paxos-node member add --id 4 --address d:9001 --via a:9001 --certs certs
//! paxos-node member promote --id 4 --via a:9001 --certs certs
//! ```
//!
//! `apply` may be run again: it does what is left to do, or says `already done`. It refuses disks that have
//! changed since the plan was made, for example because a node was started: make a new plan then.
//!
//! A lost node that comes back after all is refused by all that are left, whatever it knows, says that it was
//! removed, and ends with exit code 5. But lost nodes that are a majority of the old cluster, and reach each
//! other first, serve clients as what they were. When those that are left refuse them, the logs of both tell
//! it, but they go on until somebody stops them. So empty their disks before they start, and give them new
//! ids.
//!
//! Take a backup first thing afterwards, and tell whoever relies on what may be lost.
