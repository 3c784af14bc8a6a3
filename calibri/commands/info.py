"""`calibri info`: sites and layouts of a backbone, from its configuration alone."""

from __future__ import annotations

import argparse
import json

from calibri.backbones.catalog import BackboneSpec, known_backbones, resolve
from calibri.backbones.layouts import GRANULARITIES, Layout
from calibri.backbones.sites import FAMILIES, Site, sites_of_config
from calibri.backbones.whole import check_class, check_folder
from calibri.errors import BackboneError, first_line

HELP = "sites, layouts and counts of a backbone"
DESCRIPTION = (
    "Without a backbone: those of the catalog. No weights are loaded; only a hub id that the "
    "catalog does not know makes it use the network, for a configuration file."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("backbone", nargs="?", help="name, folder or hub id")
    parser.add_argument("--granularity", choices=GRANULARITIES, help="list the names of this layout")
    parser.add_argument("--sites", action="store_true", help="list every site and where it is hooked")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    if args.backbone is None:
        rows = [describe(resolve(name)) for name in known_backbones()]
        if args.json:
            print(json.dumps(rows, indent=1))
        else:
            print(f"{'backbone':20s} {'block':>6s} {'layer':>6s} {'gate':>6s}  steps  source")
            for row in rows:
                counts = " ".join(f"{row['scales'][g]:6d}" for g in GRANULARITIES)
                print(f"{row['name']:20s} {counts}  {row['steps']:5d}  {row['source']}")
            print(f"\nSupported transformers: {', '.join(sorted(FAMILIES))}")
        return 0
    spec = resolve(args.backbone)
    sites = sites_of_spec(spec)
    row = describe(spec, sites)
    names = Layout.from_sites(sites, args.granularity).names if args.granularity else ()
    if args.json:
        if names:
            row["names"] = list(names)
        if args.sites:
            row["sites"] = [{"name": s.name, "module": s.module, "operation": repr(s.op)} for s in sites]
        print(json.dumps(row, indent=1))
        return 0
    print(f"{spec.name}: {row['transformer']}, {row['sites_count']} sites")
    print(f"source {spec.source}; {spec.steps} steps, {spec.width}×{spec.height} px")
    for granularity in GRANULARITIES:
        layout = Layout.from_sites(sites, granularity)
        print(f"{granularity:6s} {len(layout.names):4d} scales  {layout.names[0]} … {layout.names[-1]}")
    if names:
        print("\n".join(names))
    if args.sites:
        for site in sites:
            print(f"{site.name:24s} {site.module:40s} {site.op}")
    return 0


def describe(spec: BackboneSpec, sites: tuple[Site, ...] | None = None) -> dict:
    """A backbone's defaults and its number of scales at each granularity, as JSON values."""
    sites = sites_of_spec(spec) if sites is None else sites
    return {
        "name": spec.name,
        "source": spec.source,
        "transformer": spec.transformer[0] if spec.transformer else None,
        "steps": spec.steps,
        "width": spec.width,
        "height": spec.height,
        "sites_count": len(sites),
        "scales": {g: len(Layout.from_sites(sites, g).names) for g in GRANULARITIES},
    }


def sites_of_spec(spec: BackboneSpec) -> tuple[Site, ...]:
    """Sites from the configuration; for an unknown hub id it is fetched, for a known one it is in the
    catalog. Raises BackboneError for what loading would refuse, as far as it is told without weights."""
    if spec.is_local:
        check_folder(spec)
    if spec.transformer is not None:
        return sites_of_config(*spec.transformer, spec.extras)
    from diffusers import DiffusionPipeline, ModelMixin

    try:
        index = DiffusionPipeline.load_config(spec.source, revision=spec.revision)
        check_class(spec, index)
        name = index["transformer"][1]
        config = ModelMixin.load_config(spec.source, subfolder="transformer", revision=spec.revision)
    except (OSError, ValueError, AttributeError) as error:
        raise BackboneError(
            f"{spec.source}: its configuration cannot be read: {first_line(error)}"
        ) from error
    return sites_of_config(str(name), config, spec.extras)
