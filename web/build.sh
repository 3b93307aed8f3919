#!/bin/sh
# Builds moderation/studio/static/vendor from package-lock.json: the same lock gives the same bytes. Needs Node.js 20 and npm.
#   sh web/build.sh            build
#   sh web/build.sh --check    say whether what is checked in is what this would build
set -eu
here=$(cd "$(dirname "$0")" && pwd)
vendor="$here/../moderation/studio/static/vendor"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$here/package.json" "$here/package-lock.json" "$here/editor.js" "$work/"
cd "$work"
npm ci --ignore-scripts --no-audit --no-fund --silent
mkdir out
node_modules/.bin/esbuild editor.js --bundle --minify --format=esm --target=es2022 --charset=utf8 --legal-comments=none \
  --log-level=warning --outfile=out/codemirror.js
cp node_modules/htmx.org/dist/htmx.min.js out/htmx.js
node -e '
const fs = require("fs"), lock = JSON.parse(fs.readFileSync("package-lock.json"));
let text = "The files in this folder are made of these packages, minified by esbuild (web/build.sh).\n";
for (const [path, entry] of Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : 1))) {
  if (!path || entry.dev || entry.optional) continue;
  const file = fs.readdirSync(path).find((name) => /^licen[sc]e/i.test(name));
  if (!file) throw new Error(path + " has no licence");
  text += `\n${"=".repeat(80)}\n${path.replace("node_modules/", "")} ${entry.version} (${entry.license})\n\n` +
    fs.readFileSync(path + "/" + file, "utf8").trim() + "\n";
}
fs.writeFileSync("out/LICENSES.txt", text);'
if [ "${1:-}" = --check ]; then
  diff -r out "$vendor" && echo "as built"
else
  mkdir -p "$vendor"
  cp out/* "$vendor/"
fi
