// Completion and explanations of keys from the policy language's JSON Schema.

let language = {};
export const load = async () => { language = await (await fetch("/policy/schema.json")).json(); };

const KEY = /^(\s*(?:- +)*)("?)([A-Za-z_][\w-]*)\2\s*:(?=\s|$)/;
const indentOf = (line) => line.match(/^\s*(?:- +)*/)[0].length;

// The keys above a place that contain it, outermost first; list entries count as the list's.
export function pathAt(doc, number, indent) {
  const path = [];
  for (let at = number - 1; at >= 1 && indent > 0; at--) {
    const line = doc.line(at).text;
    if (!line.trim() || line.trim().startsWith("#")) continue;
    const key = line.match(KEY);
    if (!key) continue;
    const dash = line.match(/^\s*/)[0].length, column = key[1].length;
    if (column < indent) { path.unshift(key[3]); indent = /^\s*- /.test(line) && column > dash ? Math.min(column, dash + 1) : column; }
    else if (dash < indent && /^\s*- /.test(line)) indent = dash + 1;
  }
  return path;
}

function resolved(schema) {
  while (schema?.$ref) schema = { ...language.$defs?.[schema.$ref.split("/").pop()], ...(schema.description ? { description: schema.description } : {}) };
  return schema ?? {};
}

// Everything that a schema may be: its alternatives, and the entries of lists.
function meanings(schema) {
  const found = [], waiting = [resolved(schema)];
  while (waiting.length) {
    const one = waiting.pop();
    found.push(one);
    for (const other of [...(one.anyOf ?? []), ...(one.oneOf ?? []), ...(one.items ? [one.items] : [])]) waiting.push(resolved(other));
  }
  return found;
}

export function schemaOf(path) {
  let here = meanings(language);
  for (const key of path) {
    here = here.flatMap((one) => {
      const next = one.properties?.[key] ?? Object.values(one.patternProperties ?? {})[0] ??
        (typeof one.additionalProperties === "object" ? one.additionalProperties : undefined);
      return next ? meanings(next) : [];
    });
  }
  return here;
}

const values = (schemas) => schemas.flatMap((one) => one.enum ?? (one.const !== undefined ? [one.const] : one.type === "boolean" ? [true, false] : []));

export function complete(context) {
  const line = context.state.doc.lineAt(context.pos), before = line.text.slice(0, context.pos - line.from);
  if (/(^|\s)#/.test(before)) return null;
  const value = before.match(/^(\s*(?:- +)*)("?)([A-Za-z_][\w-]*)\2\s*:\s+([\w-]*)$/);
  if (value) {
    const options = values(schemaOf([...pathAt(context.state.doc, line.number, value[1].length), value[3]]));
    return options.length ? { from: context.pos - value[4].length, options: options.map((one) => ({ label: String(one), type: "enum" })) } : null;
  }
  const key = before.match(/^(\s*(?:- +)*)([\w-]*)$/);
  if (!key || (!key[2] && !context.explicit)) return null;
  const schemas = schemaOf(pathAt(context.state.doc, line.number, key[1].length)), options = new Map();
  for (const one of schemas) {
    for (const [name, about] of Object.entries(one.properties ?? {})) {
      const meaning = resolved(about);
      options.set(name, { label: name, type: "property", info: about.description ?? meaning.description, apply: `${name}: ` });
    }
  }
  return options.size ? { from: context.pos - key[2].length, options: [...options.values()] } : null;
}

export function explain(view, pos) {
  const line = view.state.doc.lineAt(pos), key = line.text.match(KEY);
  if (!key) return null;
  const from = line.from + key[1].length + key[2].length, to = from + key[3].length;
  if (pos < from || pos > to) return null;
  const path = pathAt(view.state.doc, line.number, key[1].length);
  const about = schemaOf(path).map((one) => one.properties?.[key[3]]).find(Boolean);
  if (!about) return null;
  const facts = meanings(about), described = about.description ?? facts[0].description;
  const allowed = [...new Set(values(facts))];
  return {
    pos: from, end: to, above: true,
    create() {
      const dom = document.createElement("div"), name = document.createElement("b"), text = document.createElement("div");
      dom.className = "explained";
      name.textContent = key[3];
      text.textContent = [described, allowed.length ? `One of: ${allowed.join(", ")}` : "", about.default !== undefined && about.default !== null && typeof about.default !== "object" ? `Default: ${about.default === "" ? "empty" : about.default}` : ""].filter(Boolean).join("\n");
      dom.append(name, text);
      return { dom };
    },
  };
}
