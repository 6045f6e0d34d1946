"""`plan`: what experiments would cost; with --minutes their epochs for equal time, with --power what scores can show."""

from argparse import ArgumentParser, Namespace

import sepkit
from sepkit.commands import data_option, device_option, numbers, pick_options, print_table


def arguments(parser: ArgumentParser) -> None:
    from sepkit.evaluation.statistics import ALPHA

    pick_options(parser)
    device_option(parser)
    parser.add_argument("--minutes", type=float, help="instead, how many epochs of each take these minutes")
    data_option(parser)  # --minutes measures on songs
    parser.add_argument("--power", action="store_true", help="instead, what difference songs and seeds can show")
    parser.add_argument("--songs", type=int, help="for --power: songs (default: the profile's test songs)")
    parser.add_argument("--seeds", type=numbers, default=[2, 3, 5], help="for --power: seeds a side, as 2,3,5")
    parser.add_argument("--alpha", type=float, default=ALPHA, help="for --power: level of the test over songs")


def run(args: Namespace) -> None:
    where = {"profile": args.profile, "root": args.root}
    if args.minutes is not None:
        pick = ["Base"] if args.pick is None else args.pick
        table = sepkit.equal_epochs(pick, minutes=args.minutes, data=args.data, device=args.device, **where)
        print_table(table)
    elif args.power:
        from sepkit.evaluation.power import power_table

        table = power_table(songs=args.songs, seeds=args.seeds, alpha=args.alpha, **where)
        print_table(table)
        print(table.attrs["basis"])
    else:
        print_table(sepkit.plan(pick=args.pick, hours=args.hours, device=args.device, **where))
