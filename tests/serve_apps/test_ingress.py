import subprocess
import sys


def test_the_ingress_imports_neither_torch_nor_lance():
    code = "import sys, serve_apps.ingress; sys.exit(str({'torch', 'lance'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "set()"
