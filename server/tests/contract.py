"""The server against its own description, /openapi.json, by schemathesis: whatever is asked, no answer is a server error, and each
is of a status, type and shape that the description names.

    make contract
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance"
CHECKS += ",response_schema_conformance,unsupported_method"


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        # Short texts: what is tried is what may be asked, not how long the answer is.
        flags = ["--port", "0", "--device", "cpu", "--text-bytes", "40", "--voices-dir", folder]
        server = subprocess.Popen([os.environ["QWENTTS_SERVER"], *flags], stderr=subprocess.PIPE, text=True)
        assert server.stderr
        try:
            url = ""
            for line in server.stderr:
                if found := re.search(r"http://\S+[^/\s]", line):
                    url = found[0]
                if "ready" in line:
                    break
            tester = pathlib.Path(sys.executable).with_name("schemathesis")
            examples = os.environ.get("CONTRACT_EXAMPLES", "40")
            command = [tester, "run", f"{url}/openapi.json", "--checks", CHECKS, "--max-examples", examples]
            command += ["--seed", "1", "--generation-database", "none", "--request-timeout", "60", "--no-color"]
            command += ["--suppress-health-check", "all", "--warnings", "off"]
            status = subprocess.run(command, cwd=folder, check=False).returncode
        finally:
            server.terminate()
            said = server.communicate(timeout=60)[1]
        if server.returncode or "panicked" in said:
            print(said, file=sys.stderr)
            return 1
        return status


if __name__ == "__main__":
    sys.exit(main())
