"""``cloudbaker gltf VERB IN OUT``: one verb of ``compute/gltf`` on one file, in the sandbox."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cloudbaker.cli.output import json_option, print_json, printable, table

if TYPE_CHECKING:
    from cloudbaker.compute.gltf.verbs import Option
    from cloudbaker.tasks.apply import Applied


class _Verbs(click.Group):
    """A command for each of `VERBS`, made when it is asked for: their options are those of the verb."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the alphabet."""
        from cloudbaker.compute.gltf import VERBS

        return sorted(name.replace("_", "-") for name in VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a verb, by its name with dashes or underscores."""
        from cloudbaker.compute.gltf import VERBS

        name = cmd_name.replace("-", "_")
        return _command(name) if name in VERBS else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Their one-liners, nothing imported."""
        from cloudbaker.compute.gltf import VERBS

        with formatter.section("Verbs"):
            formatter.write_dl([(name.replace("_", "-"), VERBS[name].summary) for name in sorted(VERBS)])


@click.group(cls=_Verbs)
def gltf() -> None:
    """Run one verb on one model: IN is a .glb, .gltf or .zip, OUT the .glb to write.

    The model is read in the sandbox. What is written passes the official validator.
    """


def _command(name: str) -> click.Command:
    from cloudbaker.compute.gltf import VERBS
    from cloudbaker.compute.gltf.verbs import options_of

    own = options_of(name)
    parameters: list[click.Parameter] = [
        click.Argument(["source"], metavar="IN"),
        click.Argument(["target"], metavar="OUT"),
        *(_option(option) for option in own),
        click.Option(["--recipe"], default="web", show_default=True, help="Whose limits hold."),
        click.Option(
            ["--trusted"],
            is_flag=True,
            help="The content is your own: work on it even where nothing can isolate it.",
        ),
    ]

    def run(source: str, target: str, recipe: str, trusted: bool, as_json: bool, **settings: Any) -> int:
        context = click.get_current_context()
        default = click.core.ParameterSource.DEFAULT
        given = {key: value for key, value in settings.items() if context.get_parameter_source(key) is not default}
        return _run(name, source, target, given, recipe=recipe, trusted=trusted, as_json=as_json)

    command = click.Command(name.replace("_", "-"), callback=run, params=parameters, help=VERBS[name].summary)
    return json_option(command)


def _option(option: Option) -> click.Option:
    flag = f"--{option.name.replace('_', '-')}"
    text = option.help or None
    if option.kind is bool:
        return click.Option(
            [f"{flag}/--no-{flag[2:]}", option.name], default=option.default, show_default=True, help=text
        )
    kind: Any = click.Choice(option.choices) if option.choices else option.kind
    return click.Option(
        [flag, option.name],
        type=kind,
        default=option.default,
        multiple=option.repeated,
        show_default=not option.repeated,
        help=text,
    )


def _run(
    verb: str, source: str, target: str, options: dict[str, Any], *, recipe: str, trusted: bool, as_json: bool
) -> int:
    from cloudbaker.compute.gltf.verbs import arguments
    from cloudbaker.compute.sandbox import Sandbox
    from cloudbaker.recipe import load_recipe
    from cloudbaker.settings import settings
    from cloudbaker.tasks.apply import apply_verb

    arguments(verb, options)  # what can't be is told before anything is read
    with Sandbox(parallel=1, trusted=trusted, outer=settings().outer_sandbox) as sandbox:
        done = apply_verb(sandbox, Path(source), verb, options, load_recipe(recipe))
    if done.data:
        _write(Path(target), done.data)
    if as_json:
        print_json(_json(done, target))
    else:
        _show(done, target)
    return 0 if done.data else 3


def _write(target: Path, data: bytes) -> None:
    """The whole file or none: beside it first, then in its place."""
    from cloudbaker.errors import SourceUnreadable

    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        beside.write_bytes(data)
        beside.replace(target)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise SourceUnreadable(f"can't write {printable(str(target))}: {error.strerror or error}") from error


def _json(done: Applied, target: str) -> dict[str, Any]:
    from cloudbaker.model import to_json
    from cloudbaker.tasks.result import worst_first

    return {
        "verb": done.verb,
        "path": done.path,
        "output": target if done.data else None,
        "verdict": done.verdict.kind.value,
        "findings": [to_json(f) for f in worst_first(done.verdict.findings)],
        "result": done.result,
        "before": dict(done.before),
        "after": dict(done.after),
        "losses": [to_json(loss) for loss in done.losses],
    }


def _show(done: Applied, target: str) -> None:
    from cloudbaker.tasks.report import finding_lines

    if not done.data:
        click.secho(f"{done.verdict.kind.value}: {printable(done.path)}", bold=True)
        for line in finding_lines(done.verdict.findings, most=100):
            click.echo("  " + printable(line))
        return
    rows = [(name.replace("_", " "), f"{old:,}", f"{done.after[name]:,}") for name, old in done.before.items()]
    changed = [row for row in rows if row[1] != row[2] or row[0] == "bytes"]
    click.secho(f"{done.verb}: {printable(done.path)} → {printable(target)}", bold=True)
    table(("", "before", "after"), changed)
    for line in _result_lines(done.result):
        click.echo("  " + printable(line))
    for loss in done.losses[:20]:
        click.echo(printable(f"  lost: {loss.kind} {loss.place}: {loss.detail}"))
    if len(done.losses) > 20:
        click.echo(f"  … and {len(done.losses) - 20} more losses (see --json)")


def _result_lines(result: Any) -> list[str]:
    """What the verb says of its work, a line for each thing."""
    if isinstance(result, dict):
        plain = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in result.items() if _simple(value))
        texts = [str(text) for value in result.values() if isinstance(value, list) for text in value]
        return [line for line in (plain, *texts) if line]
    if isinstance(result, list):
        return [" → ".join(map(str, result))]
    return [] if result is None else [f"{result} changed"]


def _simple(value: Any) -> bool:
    return isinstance(value, (int, float, str)) and value != ""
