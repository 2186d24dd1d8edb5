"""Completion of verbs, options and their values for bash, zsh and fish.

  eval "$(avedge completion bash)"                                       now; to keep it, put this line into ~/.bashrc
  eval "$(avedge completion zsh)"                                        the same for ~/.zshrc
  avedge completion fish > ~/.config/fish/completions/avedge.fish        once

The shell asks avedge itself what could come next, so that the script is never older than the program.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

SHELLS = ("bash", "zsh", "fish")
_ZSH_BEGIN = "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }"  # a plain zsh completes nothing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `avedge completion`."""
    parser.add_argument("shell", choices=SHELLS, help="which shell's script to print")


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    import argcomplete

    script = argcomplete.shellcode(["avedge"], shell=args.shell).strip()
    if args.shell == "zsh":
        first, _, rest = script.partition("\n")  # which has to stay the first, for who keeps it as a file
        script = "\n".join((first, _ZSH_BEGIN, rest))
    sys.stdout.write(script + "\n")
    return 0


def complete(build_parser: Callable[[str | None], argparse.ArgumentParser]) -> None:
    """Answer the shell's question and end; its words are in the environment.

    Args:
        build_parser: makes the parser, with the options of the verb that is given.
    """
    import argcomplete

    words = os.environ.get("COMP_LINE", "").split()[1:]
    verb = next((word for word in words if not word.startswith("-")), None)
    argcomplete.autocomplete(build_parser(verb), always_complete_options=False)
