#!/bin/sh
# Fills /opt/venv with what pyproject.toml needs, at the versions and with the hashes of requirements.lock: not the
# development tools, which are locked there too. A library without a hash there, or with a different one, fails the build.
set -eu

torch="$1"

install() {
    /opt/uv/bin/uv pip install --python /opt/venv/bin/python --link-mode copy --compile-bytecode "$@"
}

case "$torch" in
"")
    install --require-hashes --requirements pyproject.toml --extra cluster --extra svg --constraints requirements.lock
    ;;
cpu)
    # torchvision must come from the same index as torch: the ordinary one does not load with a CPU-only torch.
    sed -nE 's/^((nvidia|cuda)-[a-z0-9-]+|triton)==.*/\1/p' requirements.lock > /tmp/cuda.txt
    install --require-hashes --excludes /tmp/cuda.txt --requirements pyproject.toml --extra cluster --extra svg --constraints requirements.lock
    # shellcheck disable=SC2046  # two words are meant
    install --reinstall --no-deps --torch-backend cpu \
        $(sed -nE 's/^(torch|torchvision)==([^ ;]+).*/\1==\2/p' requirements.lock)
    ;;
*)
    echo "TORCH is '$torch': give cpu, or nothing for the wheels with CUDA" >&2
    exit 1
    ;;
esac

/opt/venv/bin/python -c "import torch, torchvision"
