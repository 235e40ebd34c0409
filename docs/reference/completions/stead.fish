# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_stead_global_optspecs
    string join \n state= h/help V/version
end

function __fish_stead_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_stead_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_stead_using_subcommand
    set -l cmd (__fish_stead_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c stead -n "__fish_stead_needs_command" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c stead -n "__fish_stead_needs_command" -s V -l version -d 'Print version'
complete -c stead -n "__fish_stead_needs_command" -f -a "daemon" -d 'Run this node\'s daemon in the foreground'
complete -c stead -n "__fish_stead_needs_command" -f -a "invite" -d 'Print the line that lets another node join; it works once, for ten minutes'
complete -c stead -n "__fish_stead_needs_command" -f -a "join" -d 'Trust the node that printed that line, and be trusted by it'
complete -c stead -n "__fish_stead_needs_command" -f -a "nodes" -d 'List this node and those that it trusts'
complete -c stead -n "__fish_stead_needs_command" -f -a "node" -d 'List, remove, replace and move nodes; change this node\'s key'
complete -c stead -n "__fish_stead_needs_command" -f -a "protect" -d 'Keep a live replica of directories on another node'
complete -c stead -n "__fish_stead_needs_command" -f -a "unprotect" -d 'End the protection of a set; its replica stays as it is'
complete -c stead -n "__fish_stead_needs_command" -f -a "wait" -d 'Wait until everything written to the set so far is applied on every target'
complete -c stead -n "__fish_stead_needs_command" -f -a "status" -d 'Show every connection and every watched group: what it does, how far behind its replica is, who serves'
complete -c stead -n "__fish_stead_needs_command" -f -a "estimate" -d 'Measure how much changes in directories and files, and which line would carry it; needs no other node'
complete -c stead -n "__fish_stead_needs_command" -f -a "mirror" -d 'Compare everything and send what differs'
complete -c stead -n "__fish_stead_needs_command" -f -a "verify" -d 'Compare replicas with their source while both are in use; exit code 3 where they differ'
complete -c stead -n "__fish_stead_needs_command" -f -a "pause" -d 'Stop sending a set; what changes is remembered'
complete -c stead -n "__fish_stead_needs_command" -f -a "resume" -d 'Go on sending a set; or answer the mass-change brake that halted it'
complete -c stead -n "__fish_stead_needs_command" -f -a "limit" -d 'Limit how fast a set is sent'
complete -c stead -n "__fish_stead_needs_command" -f -a "monitor" -d 'Watch the source of sets from this node, which keeps their replicas, and stand in for it when it fails'
complete -c stead -n "__fish_stead_needs_command" -f -a "unmonitor" -d 'Watch a group no longer; its sets stay protected'
complete -c stead -n "__fish_stead_needs_command" -f -a "failover" -d 'Have the target of a group serve in place of its source, which is dead'
complete -c stead -n "__fish_stead_needs_command" -f -a "approve" -d 'Say yes to the takeover that a group waits to be approved'
complete -c stead -n "__fish_stead_needs_command" -f -a "switchover" -d 'Have the node that stands by serve, nothing lost'
complete -c stead -n "__fish_stead_needs_command" -f -a "restore" -d 'Bring the data of a group back to its source, while the target goes on serving'
complete -c stead -n "__fish_stead_needs_command" -f -a "failback" -d 'Have the restored source of a group serve again, nothing lost'
complete -c stead -n "__fish_stead_needs_command" -f -a "takeover" -d 'Have nothing taken over by itself for a while, as during maintenance'
complete -c stead -n "__fish_stead_needs_command" -f -a "as" -d 'Start a program under another host name than this node\'s, which keeps its own'
complete -c stead -n "__fish_stead_needs_command" -f -a "group" -d 'Move a group, take it offline and online, hold it in maintenance'
complete -c stead -n "__fish_stead_needs_command" -f -a "explain" -d 'Tell what happened to groups: what was seen, concluded and done, and how long each step took'
complete -c stead -n "__fish_stead_needs_command" -f -a "fork" -d 'List, copy out or give up what this node alone had when another one stood in for it'
complete -c stead -n "__fish_stead_needs_command" -f -a "alert" -d 'Try whether alerts arrive'
complete -c stead -n "__fish_stead_needs_command" -f -a "alerts" -d 'List what is wrong at this node now'
complete -c stead -n "__fish_stead_needs_command" -f -a "kit" -d 'List the recovery kits for well-known services, or print one for a plan'
complete -c stead -n "__fish_stead_needs_command" -f -a "plan" -d 'Show, check or replace the plan'
complete -c stead -n "__fish_stead_needs_command" -f -a "checklist" -d 'List what is not kept alike by itself on the two nodes of a group: role files, units, programs, packages, owners and files of the machine. Exit code 3 where something differs'
complete -c stead -n "__fish_stead_needs_command" -f -a "state" -d 'Save what this node is and knows, or bring it back'
complete -c stead -n "__fish_stead_needs_command" -f -a "support" -d 'Write what a person who helps needs to know into a tar file, without secrets'
complete -c stead -n "__fish_stead_needs_command" -f -a "shutdown" -d 'End the daemon; captures go on and remember what changes'
complete -c stead -n "__fish_stead_needs_command" -f -a "barrier" -d 'Make everything protected inaccessible until the daemon is up: for the boot, before any other service'
complete -c stead -n "__fish_stead_needs_command" -f -a "completions" -d 'Print the completions for a shell'
complete -c stead -n "__fish_stead_needs_command" -f -a "man" -d 'Write the man pages into a directory'
complete -c stead -n "__fish_stead_needs_command" -f -a "capture" -d 'Serve a set\'s capture mount (started by the daemon)'
complete -c stead -n "__fish_stead_needs_command" -f -a "watchdog" -d 'Take groups down whose lease ends while the daemon does not renew it (started by the daemon)'
complete -c stead -n "__fish_stead_using_subcommand daemon" -l listen -d 'Address and port for other nodes; may be repeated [default: 0.0.0.0:7130]' -r
complete -c stead -n "__fish_stead_using_subcommand daemon" -l name -d 'Name of the node, unique among nodes that trust each other [default: the host\'s name]' -r
complete -c stead -n "__fish_stead_using_subcommand daemon" -l hung-after -d 'With --restart: it hangs when it gives no sign of life for so long' -r
complete -c stead -n "__fish_stead_using_subcommand daemon" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand daemon" -l restart -d 'Where systemd does not run it: start it again, by its watchdog, when it dies or hangs'
complete -c stead -n "__fish_stead_using_subcommand daemon" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand invite" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand invite" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand join" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand join" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand nodes" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand nodes" -l json -d 'For programs'
complete -c stead -n "__fish_stead_using_subcommand nodes" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand node; and not __fish_seen_subcommand_from list remove replace rotate-key address" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand node; and not __fish_seen_subcommand_from list remove replace rotate-key address" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand node; and not __fish_seen_subcommand_from list remove replace rotate-key address" -f -a "list" -d 'List this node and those that it trusts'
complete -c stead -n "__fish_stead_using_subcommand node; and not __fish_seen_subcommand_from list remove replace rotate-key address" -f -a "remove" -d 'End the trust between this node and another one; refused while a set uses it'
complete -c stead -n "__fish_stead_using_subcommand node; and not __fish_seen_subcommand_from list remove replace rotate-key address" -f -a "replace" -d 'Put a rebuilt machine, or another node, in the place of a dead node: it keeps the dead one\'s replicas from now on'
complete -c stead -n "__fish_stead_using_subcommand node; and not __fish_seen_subcommand_from list remove replace rotate-key address" -f -a "rotate-key" -d 'Give this node a new key and certificate; its peers are told, nothing is interrupted'
complete -c stead -n "__fish_stead_using_subcommand node; and not __fish_seen_subcommand_from list remove replace rotate-key address" -f -a "address" -d 'Say where another node is reached from now on'
complete -c stead -n "__fish_stead_using_subcommand node; and __fish_seen_subcommand_from list" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand node; and __fish_seen_subcommand_from list" -l json -d 'For programs'
complete -c stead -n "__fish_stead_using_subcommand node; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand node; and __fish_seen_subcommand_from remove" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand node; and __fish_seen_subcommand_from remove" -l force -d 'Also where the other node refuses, because it still knows a set with this one'
complete -c stead -n "__fish_stead_using_subcommand node; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand node; and __fish_seen_subcommand_from replace" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand node; and __fish_seen_subcommand_from replace" -l seeded -d 'The replicas\' directories hold a carried copy, or what the old disks held: only differences are sent'
complete -c stead -n "__fish_stead_using_subcommand node; and __fish_seen_subcommand_from replace" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand node; and __fish_seen_subcommand_from rotate-key" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand node; and __fish_seen_subcommand_from rotate-key" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand node; and __fish_seen_subcommand_from address" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand node; and __fish_seen_subcommand_from address" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand protect" -l on -d 'The node that is to keep the replica' -r
complete -c stead -n "__fish_stead_using_subcommand protect" -l set -d 'Name of the set [default: after the first path]' -r
complete -c stead -n "__fish_stead_using_subcommand protect" -l include -d 'Take only files that match; may be repeated. Without / it matches names at any depth, with / paths beneath PATH' -r
complete -c stead -n "__fish_stead_using_subcommand protect" -l exclude -d 'Leave out what matches, directories with all that is in them; may be repeated' -r
complete -c stead -n "__fish_stead_using_subcommand protect" -l map -d 'Where a path goes on the target, if not to the same path; may be repeated' -r
complete -c stead -n "__fish_stead_using_subcommand protect" -l mode -d 'When a write of the application returns: at once, or when the target has it' -r -f -a "async\t''
sync\t''"
complete -c stead -n "__fish_stead_using_subcommand protect" -l capture -d 'How changes are captured' -r -f -a "auto\t''
mount\t''
probe\t''"
complete -c stead -n "__fish_stead_using_subcommand protect" -l order -d 'The order that the replica keeps: of every write, or what a power cut would leave' -r -f -a "strict\t''
flush\t''"
complete -c stead -n "__fish_stead_using_subcommand protect" -l route -d 'The address of the target to use [default: any that it listens on]' -r
complete -c stead -n "__fish_stead_using_subcommand protect" -l without -d 'Go without these where the target\'s file system cannot hold them; may be repeated' -r -f -a "xattrs\t''
acls\t''"
complete -c stead -n "__fish_stead_using_subcommand protect" -l limit -d 'How fast it may be sent, as 10MiB/s or 8Mbit/s' -r
complete -c stead -n "__fish_stead_using_subcommand protect" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand protect" -l flat -d 'Leave subdirectories out'
complete -c stead -n "__fish_stead_using_subcommand protect" -l into-non-empty -d 'Also into a directory that is not empty: it is made equal, what would be deleted is listed first'
complete -c stead -n "__fish_stead_using_subcommand protect" -l yes -d 'Do not ask whether what is listed may be deleted (nobody is asked where there is no terminal)'
complete -c stead -n "__fish_stead_using_subcommand protect" -l seeded -d 'The directory on the target was filled from a carried copy: send only what differs'
complete -c stead -n "__fish_stead_using_subcommand protect" -l no-wait -d 'Return once it runs, not once the mirror is done'
complete -c stead -n "__fish_stead_using_subcommand protect" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand unprotect" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand unprotect" -l force -d 'On a target: give the replica up although its source was not asked'
complete -c stead -n "__fish_stead_using_subcommand unprotect" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand wait" -l timeout -d 'How long at most, as 500ms, 3s, 2m; exit code 5 where that is not enough [default: without end]' -r
complete -c stead -n "__fish_stead_using_subcommand wait" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand wait" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand status" -l warning -d 'Lag from which on it is a warning' -r
complete -c stead -n "__fish_stead_using_subcommand status" -l critical -d 'Lag, or time without a session, from which on it is critical' -r
complete -c stead -n "__fish_stead_using_subcommand status" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand status" -l json -d 'For programs; with --watch one line each time'
complete -c stead -n "__fish_stead_using_subcommand status" -l watch -d 'Go on showing it every second'
complete -c stead -n "__fish_stead_using_subcommand status" -l local -d 'Only what this node knows: no other one is asked'
complete -c stead -n "__fish_stead_using_subcommand status" -l check -d 'For monitoring systems: one line, and exit code 0 good, 1 warning, 2 critical, 3 unknown, as Nagios plug-ins do'
complete -c stead -n "__fish_stead_using_subcommand status" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand estimate" -l for -d 'How long, as 30s, 10m, 24h; Ctrl-C ends it early [default: until Ctrl-C]' -r
complete -c stead -n "__fish_stead_using_subcommand estimate" -l line -d 'A line to judge, as 2Mbit, 100Mbit/s, 64KiB/s; may be repeated' -r
complete -c stead -n "__fish_stead_using_subcommand estimate" -l within -d 'A line keeps up while the replica is behind by no more than this' -r
complete -c stead -n "__fish_stead_using_subcommand estimate" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand estimate" -l json -d 'Print JSON, with every minute'
complete -c stead -n "__fish_stead_using_subcommand estimate" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand mirror" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand mirror" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand verify" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand verify" -l last -d 'Do not compare: show what the last verify found, by hand or by schedule'
complete -c stead -n "__fish_stead_using_subcommand verify" -l repair -d 'Send what differs; exit code 0 once everything was repaired'
complete -c stead -n "__fish_stead_using_subcommand verify" -l json -d 'For programs'
complete -c stead -n "__fish_stead_using_subcommand verify" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand pause" -l on -d 'Only the connection to that node' -r
complete -c stead -n "__fish_stead_using_subcommand pause" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand pause" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand resume" -l on -d 'Only the connection to that node' -r
complete -c stead -n "__fish_stead_using_subcommand resume" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand resume" -l accept-deletions -d 'The deletions or rewrites that halted it are meant: go on with them'
complete -c stead -n "__fish_stead_using_subcommand resume" -l undo -d 'They are not meant: take back on the replica what was applied of them'
complete -c stead -n "__fish_stead_using_subcommand resume" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand limit" -l to -d 'How fast, as 10MiB/s, 8Mbit/s or unlimited; limits of the plan\'s bandwidth-schedule hold at their times' -r
complete -c stead -n "__fish_stead_using_subcommand limit" -l on -d 'Only the connection to that node' -r
complete -c stead -n "__fish_stead_using_subcommand limit" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand limit" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand monitor" -l set -d 'A set that goes with it, of which this node keeps the replica; may be repeated' -r
complete -c stead -n "__fish_stead_using_subcommand monitor" -l source -d 'The node that is watched, where no set goes with the group: only addresses and services move' -r
complete -c stead -n "__fish_stead_using_subcommand monitor" -l address -d 'An address of the server, as 10.0.0.100/24, that moves to the node that serves; may be repeated' -r
complete -c stead -n "__fish_stead_using_subcommand monitor" -l interface -d 'The interface of the addresses [default: the one that has an address in the same network]' -r
complete -c stead -n "__fish_stead_using_subcommand monitor" -l service -d 'A unit of systemd that runs on the node that serves; may be repeated, in the order in which they are started' -r
complete -c stead -n "__fish_stead_using_subcommand monitor" -l start -d 'Starts a service that is no unit, after the units: program with its absolute path, and arguments; no shell runs it' -r
complete -c stead -n "__fish_stead_using_subcommand monitor" -l stop -d 'Stops it' -r
complete -c stead -n "__fish_stead_using_subcommand monitor" -l status -d 'Tells by its exit code what it is: 0 running, 3 stopped' -r
complete -c stead -n "__fish_stead_using_subcommand monitor" -l pre-failover -d 'Run on the node that takes over, before anything is brought up' -r
complete -c stead -n "__fish_stead_using_subcommand monitor" -l post-failover -d 'Run there when all is up' -r
complete -c stead -n "__fish_stead_using_subcommand monitor" -l pre-failback -d 'Run on the node that hands over to the source, before anything is taken down' -r
complete -c stead -n "__fish_stead_using_subcommand monitor" -l post-failback -d 'Run on the source when all is up' -r
complete -c stead -n "__fish_stead_using_subcommand monitor" -l heartbeat -d 'Between two heartbeats, 10ms to 60s [default: 500ms]' -r
complete -c stead -n "__fish_stead_using_subcommand monitor" -l timeout -d 'Silence after which the source counts as failed, at least three heartbeats [default: 3s]' -r
complete -c stead -n "__fish_stead_using_subcommand monitor" -l path -d 'A heartbeat path, from an address of the source to one of this node; may be repeated [default: the addresses at which the nodes know each other]' -r
complete -c stead -n "__fish_stead_using_subcommand monitor" -l witness -d 'A third node that both trust, which grants and votes; without one, a person approves each takeover' -r
complete -c stead -n "__fish_stead_using_subcommand monitor" -l reference -d 'An address, as of a gateway, of which one has to answer before a takeover; may be repeated' -r
complete -c stead -n "__fish_stead_using_subcommand monitor" -l switch-back -d 'How long the restored source has to be well until it serves again by itself [default: a person says when]' -r
complete -c stead -n "__fish_stead_using_subcommand monitor" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand monitor" -l replace -d 'The addresses replace the host\'s own in their networks, instead of standing beside them'
complete -c stead -n "__fish_stead_using_subcommand monitor" -l take -d 'The addresses are taken also where somebody else answers for them'
complete -c stead -n "__fish_stead_using_subcommand monitor" -l approve -d 'A person approves each takeover, also with a witness'
complete -c stead -n "__fish_stead_using_subcommand monitor" -l unsafe-two-node -d 'Take over without a witness and without a person: where the line between the nodes is cut, both may serve'
complete -c stead -n "__fish_stead_using_subcommand monitor" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand unmonitor" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand unmonitor" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand failover" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand failover" -l force -d 'Whatever stands against it: a source that may still serve, a replica that is not level, a witness that does not agree'
complete -c stead -n "__fish_stead_using_subcommand failover" -l yes -d 'Do not ask whether --force is meant; needed where there is no terminal to ask on'
complete -c stead -n "__fish_stead_using_subcommand failover" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand approve" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand approve" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand switchover" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand switchover" -l yes -d 'Do not ask whether it is meant; needed where there is no terminal to ask on'
complete -c stead -n "__fish_stead_using_subcommand switchover" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand restore" -l set -d 'Only that set of the group; may be repeated. The group is restored when all of its sets are' -r
complete -c stead -n "__fish_stead_using_subcommand restore" -l map -d 'Where a path of the node that serves goes on the restored node from now on; may be repeated' -r
complete -c stead -n "__fish_stead_using_subcommand restore" -l to -d 'The old source is beyond repair: that node is the source from now on, and gets everything' -r
complete -c stead -n "__fish_stead_using_subcommand restore" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand restore" -l dry-run -d 'Only list what would change on the node that is restored; nothing is changed'
complete -c stead -n "__fish_stead_using_subcommand restore" -l json -d 'For programs, with --dry-run: all changes, up to 20,000'
complete -c stead -n "__fish_stead_using_subcommand restore" -l into-non-empty -d 'With --map or --to, also into directories that are not empty: what would be deleted is listed first'
complete -c stead -n "__fish_stead_using_subcommand restore" -l yes -d 'Do not ask whether it is meant; needed where there is no terminal to ask on'
complete -c stead -n "__fish_stead_using_subcommand restore" -l no-wait -d 'Return once it runs, not once the source is restored'
complete -c stead -n "__fish_stead_using_subcommand restore" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand failback" -l verify -d 'What is compared while both sides are in use, before anything is stopped; exit code 3 where it differs' -r -f -a "names\t'Names, kinds, sizes, times, owners, permissions and extended attributes'
content\t'Contents as well: everything is read on both sides'
none\t'Nothing'"
complete -c stead -n "__fish_stead_using_subcommand failback" -l then -d 'What becomes of the group afterwards' -r -f -a "monitor\t'It is watched on'
stop\t'It is watched no longer, as after stead unmonitor'"
complete -c stead -n "__fish_stead_using_subcommand failback" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand failback" -l yes -d 'Do not ask whether it is meant; needed where there is no terminal to ask on'
complete -c stead -n "__fish_stead_using_subcommand failback" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c stead -n "__fish_stead_using_subcommand takeover; and not __fish_seen_subcommand_from suspend resume" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand takeover; and not __fish_seen_subcommand_from suspend resume" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand takeover; and not __fish_seen_subcommand_from suspend resume" -f -a "suspend" -d 'Have nothing taken over by itself; what a person asks for is done'
complete -c stead -n "__fish_stead_using_subcommand takeover; and not __fish_seen_subcommand_from suspend resume" -f -a "resume" -d 'Take over by itself again, before that time is over'
complete -c stead -n "__fish_stead_using_subcommand takeover; and __fish_seen_subcommand_from suspend" -l for -d 'How long, as 30m, 2h; then takeovers resume by themselves' -r
complete -c stead -n "__fish_stead_using_subcommand takeover; and __fish_seen_subcommand_from suspend" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand takeover; and __fish_seen_subcommand_from suspend" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand takeover; and __fish_seen_subcommand_from resume" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand takeover; and __fish_seen_subcommand_from resume" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand as" -l machine-id -d 'Machine id that it sees: 32 digits 0-9 and a-f' -r
complete -c stead -n "__fish_stead_using_subcommand as" -l hosts -d 'Line that it sees in /etc/hosts before the node\'s own, as \'10.0.0.100 paris\'; may be said several times' -r
complete -c stead -n "__fish_stead_using_subcommand as" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand as" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c stead -n "__fish_stead_using_subcommand group; and not __fish_seen_subcommand_from move away offline online maintenance" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand group; and not __fish_seen_subcommand_from move away offline online maintenance" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand group; and not __fish_seen_subcommand_from move away offline online maintenance" -f -a "move" -d 'Have the node serve that stands by, nothing lost: away from the source, or back to it'
complete -c stead -n "__fish_stead_using_subcommand group; and not __fish_seen_subcommand_from move away offline online maintenance" -f -a "away" -d 'Have other nodes serve what this one serves, nothing lost: before the machine goes down'
complete -c stead -n "__fish_stead_using_subcommand group; and not __fish_seen_subcommand_from move away offline online maintenance" -f -a "offline" -d 'Take everything of the group down, until it is taken online again; nobody takes it over meanwhile'
complete -c stead -n "__fish_stead_using_subcommand group; and not __fish_seen_subcommand_from move away offline online maintenance" -f -a "online" -d 'Bring up what was taken offline; where its node is gone, the other one takes over as soon as it may'
complete -c stead -n "__fish_stead_using_subcommand group; and not __fish_seen_subcommand_from move away offline online maintenance" -f -a "maintenance" -d 'Watch the group and do nothing about what is seen, or no longer: while a person works on it'
complete -c stead -n "__fish_stead_using_subcommand group; and __fish_seen_subcommand_from move" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand group; and __fish_seen_subcommand_from move" -l yes -d 'Do not ask whether it is meant; needed where there is no terminal to ask on'
complete -c stead -n "__fish_stead_using_subcommand group; and __fish_seen_subcommand_from move" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand group; and __fish_seen_subcommand_from away" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand group; and __fish_seen_subcommand_from away" -l yes -d 'Do not ask whether it is meant; needed where there is no terminal to ask on'
complete -c stead -n "__fish_stead_using_subcommand group; and __fish_seen_subcommand_from away" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand group; and __fish_seen_subcommand_from offline" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand group; and __fish_seen_subcommand_from offline" -l yes -d 'Do not ask whether it is meant; needed where there is no terminal to ask on'
complete -c stead -n "__fish_stead_using_subcommand group; and __fish_seen_subcommand_from offline" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand group; and __fish_seen_subcommand_from online" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand group; and __fish_seen_subcommand_from online" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand group; and __fish_seen_subcommand_from maintenance" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand group; and __fish_seen_subcommand_from maintenance" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand explain" -l what-if -d 'What this node would have concluded from the heartbeats that it heard, had the plan said that: timeout=5s, heartbeat=1s' -r
complete -c stead -n "__fish_stead_using_subcommand explain" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand explain" -l json -d 'For programs'
complete -c stead -n "__fish_stead_using_subcommand explain" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand fork; and not __fish_seen_subcommand_from list show export drop" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand fork; and not __fish_seen_subcommand_from list show export drop" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand fork; and not __fish_seen_subcommand_from list show export drop" -f -a "list" -d 'List what this node alone had when other nodes stood in for it, and how far it is kept'
complete -c stead -n "__fish_stead_using_subcommand fork; and not __fish_seen_subcommand_from list show export drop" -f -a "show" -d 'List the files of one of them: when each was written last, its size, its path'
complete -c stead -n "__fish_stead_using_subcommand fork; and not __fish_seen_subcommand_from list show export drop" -f -a "export" -d 'Copy the files out, each beneath the directory with its whole path, with owner, mode, times and xattrs'
complete -c stead -n "__fish_stead_using_subcommand fork; and not __fish_seen_subcommand_from list show export drop" -f -a "drop" -d 'Give the files up, also what could not be kept yet'
complete -c stead -n "__fish_stead_using_subcommand fork; and __fish_seen_subcommand_from list" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand fork; and __fish_seen_subcommand_from list" -l json -d 'For programs'
complete -c stead -n "__fish_stead_using_subcommand fork; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand fork; and __fish_seen_subcommand_from show" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand fork; and __fish_seen_subcommand_from show" -l json -d 'For programs'
complete -c stead -n "__fish_stead_using_subcommand fork; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand fork; and __fish_seen_subcommand_from export" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand fork; and __fish_seen_subcommand_from export" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand fork; and __fish_seen_subcommand_from drop" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand fork; and __fish_seen_subcommand_from drop" -l yes -d 'Do not ask whether it is meant; needed where there is no terminal to ask on'
complete -c stead -n "__fish_stead_using_subcommand fork; and __fish_seen_subcommand_from drop" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand alert; and not __fish_seen_subcommand_from test" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand alert; and not __fish_seen_subcommand_from test" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand alert; and not __fish_seen_subcommand_from test" -f -a "test" -d 'Tell receivers of the plan that something is wrong and that it is over, and say what became of it'
complete -c stead -n "__fish_stead_using_subcommand alert; and __fish_seen_subcommand_from test" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand alert; and __fish_seen_subcommand_from test" -l json -d 'For programs'
complete -c stead -n "__fish_stead_using_subcommand alert; and __fish_seen_subcommand_from test" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c stead -n "__fish_stead_using_subcommand alerts" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand alerts" -l json -d 'For programs'
complete -c stead -n "__fish_stead_using_subcommand alerts" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand kit; and not __fish_seen_subcommand_from list show" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand kit; and not __fish_seen_subcommand_from list show" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand kit; and not __fish_seen_subcommand_from list show" -f -a "list" -d 'List the kits'
complete -c stead -n "__fish_stead_using_subcommand kit; and not __fish_seen_subcommand_from list show" -f -a "show" -d 'Print a kit as part of a plan, to be added to its group and applied'
complete -c stead -n "__fish_stead_using_subcommand kit; and __fish_seen_subcommand_from list" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand kit; and __fish_seen_subcommand_from list" -l json -d 'Print JSON'
complete -c stead -n "__fish_stead_using_subcommand kit; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand kit; and __fish_seen_subcommand_from show" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand kit; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand plan; and not __fish_seen_subcommand_from show check schema apply" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand plan; and not __fish_seen_subcommand_from show check schema apply" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand plan; and not __fish_seen_subcommand_from show check schema apply" -f -a "show" -d 'Print the plan as TOML'
complete -c stead -n "__fish_stead_using_subcommand plan; and not __fish_seen_subcommand_from show check schema apply" -f -a "check" -d 'Does the plan still fit the machines? Exit code 3 where it does not'
complete -c stead -n "__fish_stead_using_subcommand plan; and not __fish_seen_subcommand_from show check schema apply" -f -a "schema" -d 'Print the plan\'s JSON schema, for editors'
complete -c stead -n "__fish_stead_using_subcommand plan; and not __fish_seen_subcommand_from show check schema apply" -f -a "apply" -d 'Make that file the plan: say what differs, then change that and nothing else'
complete -c stead -n "__fish_stead_using_subcommand plan; and __fish_seen_subcommand_from show" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand plan; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand plan; and __fish_seen_subcommand_from check" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand plan; and __fish_seen_subcommand_from check" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand plan; and __fish_seen_subcommand_from schema" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand plan; and __fish_seen_subcommand_from schema" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand plan; and __fish_seen_subcommand_from apply" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand plan; and __fish_seen_subcommand_from apply" -l dry-run -d 'Only say what would change'
complete -c stead -n "__fish_stead_using_subcommand plan; and __fish_seen_subcommand_from apply" -l yes -d 'Do not ask where the protection of something ends'
complete -c stead -n "__fish_stead_using_subcommand plan; and __fish_seen_subcommand_from apply" -l json -d 'Say what changes as JSON'
complete -c stead -n "__fish_stead_using_subcommand plan; and __fish_seen_subcommand_from apply" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand checklist" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand checklist" -l json -d 'For programs'
complete -c stead -n "__fish_stead_using_subcommand checklist" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand state; and not __fish_seen_subcommand_from backup restore" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand state; and not __fish_seen_subcommand_from backup restore" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand state; and not __fish_seen_subcommand_from backup restore" -f -a "backup" -d 'Save this node\'s identity, trust, plan and sets into a file, also while the daemon runs; it holds the private key'
complete -c stead -n "__fish_stead_using_subcommand state; and not __fish_seen_subcommand_from backup restore" -f -a "restore" -d 'Make the state directory what a backup says; no daemon may run on it'
complete -c stead -n "__fish_stead_using_subcommand state; and __fish_seen_subcommand_from backup" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand state; and __fish_seen_subcommand_from backup" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand state; and __fish_seen_subcommand_from restore" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand state; and __fish_seen_subcommand_from restore" -l force -d 'Replace what is in the state directory'
complete -c stead -n "__fish_stead_using_subcommand state; and __fish_seen_subcommand_from restore" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand support" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand support" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand shutdown" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand shutdown" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand barrier" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand barrier" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand completions" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand completions" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand man" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand man" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand capture" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand capture" -s h -l help -d 'Print help'
complete -c stead -n "__fish_stead_using_subcommand watchdog" -l state -d 'State directory; says which daemon is meant' -r -F
complete -c stead -n "__fish_stead_using_subcommand watchdog" -s h -l help -d 'Print help'
