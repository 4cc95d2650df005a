"""`ilmari verify`: whether an artifact is what was written."""

from ilmari.cli.options import ArtifactArgument


def verify_command(folder: ArtifactArgument) -> None:
    """Check every byte of an artifact against what was written."""
    from ilmari.artifact.artifact import Artifact
    from ilmari.cli.progress import progress
    from ilmari.cli.units import si

    artifact = Artifact.open(folder)
    with progress() as report:
        artifact.verify(lambda done, total: report("verify", done, total))
    files = artifact.files
    print(f"{folder}: {len(files)} files, {si(sum(files.values()), 'B')}, all as they were written")
