"""What PlatformIO's own code says of a folder that `embbert-tvm project --template platformio` wrote.

    pip install platformio
    embbert-tvm project build/snips --template platformio -o lib/
    python benchmarks/platformio_library.py lib/

Reads library.json by its parser and schema, packs the library, reads the platformio.ini of the example, and installs
what the example depends on, the library itself, by its link. A build is `pio run`, which downloads a compiler.
"""

from __future__ import annotations

import os
import sys
import tarfile
import tempfile
from pathlib import Path

from platformio.package.manager.library import LibraryPackageManager
from platformio.package.manifest.parser import ManifestParserFactory
from platformio.package.manifest.schema import ManifestSchema
from platformio.package.meta import PackageSpec
from platformio.package.pack import PackagePacker
from platformio.project.config import ProjectConfig


def main() -> int:
    folder = Path(sys.argv[1]).resolve()
    # The list of licences is downloaded otherwise.
    ManifestSchema.load_spdx_licenses = staticmethod(lambda: {"licenses": [{"licenseId": "Apache-2.0"}]})
    manifest = ManifestSchema().load_manifest(ManifestParserFactory.new_from_dir(str(folder)).as_dict())
    print(f"library.json: {manifest['name']} {manifest['version']}, {manifest['license']}")
    with tempfile.TemporaryDirectory() as scratch:
        with tarfile.open(PackagePacker(str(folder)).pack(f"{scratch}/library.tar.gz")) as packed:
            print(f"packed: {len(packed.getnames())} files")
        example = folder / "examples/classify"
        config = ProjectConfig(str(example / "platformio.ini"))
        config.validate()
        (environment,) = config.envs()
        options = config.items(env=environment, as_dict=True)
        print(f"platformio.ini: {options['platform']}, {options['board']}, {', '.join(options['framework'])}")
        (link,) = options["lib_deps"]
        os.chdir(example)  # where pio run is called
        libraries = LibraryPackageManager(scratch)
        libraries.install_symlink(PackageSpec(link))
        (installed,) = libraries.get_installed()
        print(f"lib_deps: {installed.metadata.name} {installed.metadata.version}")
        return int(Path(installed.path) != folder)


if __name__ == "__main__":
    sys.exit(main())
