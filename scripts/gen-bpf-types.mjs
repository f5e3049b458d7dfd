// Writes the TypeScript twin of the BPF programs' types, read from the BTF in their object files:
// `gen-bpf-types.mjs x.bpf.o... [-- GROUP header.h... y.bpf.o...]... > z.gen.ts`.
// Taken over: enums; maps with their shapes; read-only configuration variables; the structs that these use; the plain numbers that a
// header defines. What stands behind `-- GROUP` comes in lists of that name's own: `mapShapes` there is `groupMapShapes`, and its programs
// aren't listed, since they are tests'. A map whose name doesn't start with tortie_ only tells the types that it holds; a global function
// without it is a subprogram.
// A struct's fields whose names start with _ are padding: nothing reads them, and zero is written.
// An enum member `X__COUNT` is the number of members and becomes `xCount`.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

const bpfMapTypes = {
  3: 'prog_array',
  5: 'percpu_hash',
  11: 'lpm_trie',
  25: 'devmap_hash',
  1: 'hash',
  2: 'array',
  6: 'percpu_array',
  9: 'lru_hash',
  27: 'ringbuf',
};

/** An array of more numbers than this is a typed array (in the machine's byte order: little-endian wherever we run). */
const LARGE = 4096;

const pascal = (name) => name.replace(/(?:^|_)([a-z0-9])/g, (_, c) => c.toUpperCase());
const camel = (name) => name.replace(/_([a-z0-9])/g, (_, c) => c.toUpperCase());
const kebab = (name) => name.toLowerCase().replaceAll('_', '-');

function fail(message) {
  process.stderr.write(`gen-bpf-types: ${message}\n`);
  process.exit(1);
}

/** The types of one object. Ids are the object's own, so each gets a reader of its own; what comes out is merged by name. */
class Btf {
  #types;
  constructor(file) {
    let text;
    try {
      text = execFileSync('bpftool', ['btf', 'dump', 'file', file, '-j'], { encoding: 'utf8', maxBuffer: 1 << 28 });
    } catch (error) {
      fail(`bpftool can't read the types of ${file}: ${error.stderr || error.message}`);
    }
    this.#types = new Map(JSON.parse(text).types.map((type) => [type.id, type]));
  }

  all(kind) {
    return [...this.#types.values()].filter((type) => type.kind === kind);
  }

  /** A type without typedefs and qualifiers. */
  plain(id) {
    let type = this.#types.get(id);
    while (type && ['TYPEDEF', 'CONST', 'VOLATILE', 'RESTRICT'].includes(type.kind))
      type = this.#types.get(type.type_id);
    return type ?? fail(`type ${id} is void or missing`);
  }

  size(id) {
    const type = this.plain(id);
    if (type.kind === 'ARRAY') return type.nr_elems * this.size(type.type_id);
    return type.size ?? fail(`type ${type.kind} ${type.name} has no size`);
  }

  /** A map definition's `__uint(field, n)`: a pointer to an array of n. */
  number(map, field) {
    const member = map.members.find((m) => m.name === field);
    return member === undefined ? 0 : this.plain(this.plain(member.type_id).type_id).nr_elems;
  }

  /** A map definition's `__type(field, T)`: a pointer to T. */
  pointee(map, field) {
    const member = map.members.find((m) => m.name === field);
    return member === undefined ? undefined : this.plain(member.type_id).type_id;
  }
}

/** How one field is declared, read and written. `view`, `at` are a DataView and a byte offset in the generated code. */
function field(btf, id, structs) {
  const type = btf.plain(id);
  if (type.kind === 'INT' || type.kind === 'ENUM') {
    const kind = type.encoding === 'SIGNED' ? 'Int' : 'Uint';
    const order = type.size === 1 ? '' : ', true';
    const accessor = `${type.size === 8 ? 'Big' : ''}${kind}${type.size * 8}`;
    return {
      type: type.size === 8 ? 'bigint' : type.kind === 'ENUM' ? pascal(type.name) : 'number',
      read: (at) => `view.get${accessor}(${at}${order})${type.kind === 'ENUM' ? ` as ${pascal(type.name)}` : ''}`,
      write: (value, at) => `view.set${accessor}(${at}, ${value}${order});`,
    };
  }
  if (type.kind === 'STRUCT') {
    collect(btf, type, structs);
    const name = pascal(type.name);
    return {
      type: name,
      read: (at) => `${name}.read(view, ${at})`,
      write: (value, at) => `${name}.write(${value}, view, ${at});`,
    };
  }
  if (type.kind === 'ARRAY') {
    const element = btf.plain(type.type_id);
    const size = btf.size(type.type_id);
    if (type.nr_elems > LARGE) {
      if (element.kind !== 'INT' || element.size > 4 || element.encoding === 'SIGNED')
        fail(`${type.nr_elems} elements of ${element.kind} ${element.name} are too many for a list`);
      const list = `Uint${element.size * 8}Array`;
      return {
        type: list,
        read: (at) =>
          `new ${list}(view.buffer.slice(view.byteOffset + ${at}, view.byteOffset + ${at} + ${btf.size(id)}))`,
        write: (value, at) => `setNumbers(view, ${at}, ${value}, ${type.nr_elems});`,
      };
    }
    if (element.kind === 'INT' && element.size === 1)
      return {
        type: 'Uint8Array',
        read: (at) => `bytesAt(view, ${at}, ${type.nr_elems})`,
        write: (value, at) => `setBytes(view, ${at}, ${value}, ${type.nr_elems});`,
      };
    const inner = field(btf, type.type_id, structs);
    return {
      type: `readonly ${inner.type.includes(' ') ? `(${inner.type})` : inner.type}[]`,
      dims: [type.nr_elems, ...(inner.dims ?? [])],
      read: (at) => `listAt(${type.nr_elems}, ${size}, ${at}, (at) => ${inner.read('at')})`,
      write: (value, at) =>
        `setList(${value}, ${type.nr_elems}, ${size}, ${at}, (value, at) => { ${inner.write('value', 'at')} });`,
    };
  }
  return fail(`no TypeScript for a ${type.kind} (${type.name})`);
}

function collect(btf, struct, structs) {
  if (struct.name === '(anon)') fail('a struct that TypeScript sees needs a name');
  const fields = struct.members.map((m) => {
    if (m.bitfield_size) fail(`struct ${struct.name}: bit field ${m.name}`);
    const offset = m.bits_offset / 8;
    if (m.name.startsWith('_'))
      return {
        name: m.name,
        offset,
        isPadding: true,
        write: (_, at) => `setZero(view, ${at}, ${btf.size(m.type_id)});`,
      };
    return { name: camel(m.name), offset, ...field(btf, m.type_id, structs) };
  });
  const known = structs.get(struct.name);
  const shape = JSON.stringify([struct.size, fields.map((f) => [f.name, f.offset, f.type])]);
  if (known !== undefined && known.shape !== shape) fail(`struct ${struct.name} differs between objects`);
  structs.set(struct.name, { name: pascal(struct.name), cName: struct.name, size: struct.size, fields, shape });
}

function enumText({ name, values }) {
  const prefix = `${name.toUpperCase()}_`;
  const members = values.map((v) => {
    if (!v.name.startsWith(prefix)) fail(`enum ${name}: ${v.name} does not start with ${prefix}`);
    return { name: v.name.slice(prefix.length), val: v.val };
  });
  const count = members.find((m) => m.name === '_COUNT');
  const named = members.filter((m) => m !== count);
  const lines = [
    `/** enum ${name} */`,
    `export const ${pascal(name)} = {`,
    ...named.map((m) => `  ${camel(m.name.toLowerCase())}: ${m.val},`),
    '} as const;',
    `export type ${pascal(name)} = (typeof ${pascal(name)})[keyof typeof ${pascal(name)}];`,
    `/** The names of ${name} for people, by number. */`,
    `export const ${camel(name)}Texts = {`,
    ...named.map((m) => `  ${m.val}: '${kebab(m.name)}',`),
    `} as const satisfies Record<${pascal(name)}, string>;`,
  ];
  if (count) lines.push(`export const ${camel(name)}Count = ${count.val};`);
  return lines.join('\n');
}

function structText({ name, cName, size, fields: all }) {
  const fields = all.filter(({ isPadding }) => !isPadding);
  const dims = fields.filter((f) => f.dims);
  return [
    `/** struct ${cName}, ${size} bytes */`,
    `export interface ${name} {`,
    ...fields.map((f) => `  readonly ${f.name}: ${f.type};`),
    '}',
    `export const ${name} = {`,
    `  size: ${size},`,
    `  offsets: { ${fields.map((f) => `${f.name}: ${f.offset}`).join(', ')} },`,
    ...(dims.length === 0 ? [] : [`  dims: { ${dims.map((f) => `${f.name}: [${f.dims.join(', ')}]`).join(', ')} },`]),
    `  read(view: DataView, at = 0): ${name} {`,
    `    return { ${fields.map((f) => `${f.name}: ${f.read(f.offset === 0 ? 'at' : `at + ${f.offset}`)}`).join(', ')} };`,
    '  },',
    `  write(value: ${name}, view: DataView, at = 0): void {`,
    ...all.map((f) => `    ${f.write(`value.${f.name}`, f.offset === 0 ? 'at' : `at + ${f.offset}`)}`),
    '  },',
    `  encode(value: ${name}): Uint8Array {`,
    `    const bytes = new Uint8Array(${size});`,
    `    ${name}.write(value, new DataView(bytes.buffer));`,
    '    return bytes;',
    '  },',
    '} as const;',
  ].join('\n');
}

/** The name of what a key or value holds: a struct's, or its size in bits. */
function typeName(btf, id, structs) {
  const type = btf.plain(id);
  if (type.kind === 'STRUCT') collect(btf, type, structs);
  return type.kind === 'STRUCT' ? pascal(type.name) : `u${btf.size(id) * 8}`;
}

const enums = new Map();
const structs = new Map();

function readEnums(btf) {
  for (const type of btf.all('ENUM')) {
    const known = enums.get(type.name);
    if (known && JSON.stringify(known.values) !== JSON.stringify(type.values))
      fail(`enum ${type.name} differs between objects`);
    if (type.name !== '(anon)') enums.set(type.name, { name: type.name, values: type.values });
  }
}

function readMap(btf, variable, maps) {
  const definition = btf.plain(variable.type_id);
  const number = btf.number(definition, 'type');
  const kind = bpfMapTypes[number] ?? fail(`map ${variable.name}: type ${number} has no name in this script`);
  // A ring buffer's records have no key, and no one size.
  const [key, value] =
    kind === 'ringbuf'
      ? []
      : ['key', 'value'].map((name) => {
          const id = btf.pointee(definition, name);
          // What only programs look into has a size and no type.
          const size = id === undefined ? btf.number(definition, `${name}_size`) : btf.size(id);
          if (size === 0) fail(`map ${variable.name} has no ${name}`);
          return { size, name: id === undefined ? `u${size * 8}` : typeName(btf, id, structs) };
        });
  const map = {
    type: number,
    kind,
    keySize: key?.size ?? 0,
    valueSize: value?.size ?? 0,
    maxEntries: btf.number(definition, 'max_entries'),
    flags: btf.number(definition, 'map_flags'),
    holds: key === undefined ? 'records' : `${key.name} -> ${value.name}`,
  };
  const known = maps.get(variable.name);
  if (known !== undefined && JSON.stringify(known) !== JSON.stringify(map))
    fail(`map ${variable.name} differs between objects`);
  if (variable.name.startsWith('tortie_')) maps.set(variable.name, map);
}

/** What a group of files says. */
function readGroup(files) {
  const group = { maps: new Map(), configs: new Map(), programs: new Set(), constants: new Map() };
  for (const file of files) {
    if (file.endsWith('.h')) {
      for (const [, name, value] of readFileSync(file, 'utf8').matchAll(
        /^#define ([A-Z][A-Z0-9_]*) (\d+|0x[\da-f]+)$/gm,
      ))
        group.constants.set(camel(name.toLowerCase()), value);
      continue;
    }
    const btf = new Btf(file);
    readEnums(btf);
    for (const section of btf.all('DATASEC')) {
      for (const { type_id: id } of section.vars) {
        const variable = btf.all('VAR').find((v) => v.id === id);
        if (section.name === '.maps') readMap(btf, variable, group.maps);
        else if (section.name === '.rodata' && variable.linkage === 'global')
          group.configs.set(variable.name, typeName(btf, variable.type_id, structs));
      }
    }
    for (const type of btf.all('FUNC'))
      if (type.linkage === 'global' && type.name.startsWith('tortie_')) group.programs.add(type.name);
  }
  return group;
}

const args = process.argv.slice(2);
const parts = args
  .join('\0')
  .split(/(?:^|\0)--\0/)
  .map((part) => part.split('\0').filter((text) => text !== ''));
const [files = [], ...groupParts] = parts;
if (files.length === 0) fail('which object files?');
const { maps, configs, programs } = readGroup(files);
const groups = groupParts.map(([name, ...ofGroup]) => ({ name, ...readGroup(ofGroup) }));

const sorted = (map) => [...map].sort(([a], [b]) => (a < b ? -1 : 1));

function mapsText(list) {
  return sorted(list)
    .map(
      ([name, m]) =>
        `  /** ${m.kind}: ${m.holds} */\n  ${name}: { name: '${name}', type: ${m.type}, keySize: ${m.keySize}, valueSize: ${m.valueSize}, maxEntries: ${m.maxEntries}, flags: ${m.flags} },`,
    )
    .join('\n');
}

function groupText({ name, maps: list, constants }) {
  return `
/** The maps of the ${name}, with the sizes that the C says. */
export const ${name}MapShapes = {
${mapsText(list)}
} as const;

/** The numbers that the C of the ${name} defines. */
export const ${name}Constants = {
${[...constants].map(([constant, value]) => `  ${constant}: ${value},`).join('\n')}
} as const;
`;
}

process.stdout
  .write(`// Generated from the BPF programs' types by scripts/gen-bpf-types.mjs. Do not edit: change bpf/ and run \`make gen\`.

function bytesAt(view: DataView, at: number, length: number): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset + at, length).slice();
}

function setBytes(view: DataView, at: number, bytes: Uint8Array, length: number): void {
  if (bytes.length !== length) throw new RangeError(\`\${bytes.length} bytes for a field of \${length}\`);
  new Uint8Array(view.buffer, view.byteOffset + at, length).set(bytes);
}

function listAt<T>(length: number, stride: number, start: number, read: (at: number) => T): T[] {
  return Array.from({ length }, (_, i) => read(start + i * stride));
}

function setList<T>(list: readonly T[], length: number, stride: number, start: number, write: (value: T, at: number) => void): void {
  if (list.length !== length) throw new RangeError(\`\${list.length} elements for a field of \${length}\`);
  list.forEach((value, i) => write(value, start + i * stride));
}

function setZero(view: DataView, at: number, length: number): void {
  new Uint8Array(view.buffer, view.byteOffset + at, length).fill(0);
}

function setNumbers(view: DataView, at: number, numbers: Uint16Array | Uint32Array, length: number): void {
  if (numbers.length !== length) throw new RangeError(\`\${numbers.length} elements for a field of \${length}\`);
  setBytes(view, at, new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength), numbers.byteLength);
}

${sorted(enums)
  .map(([, e]) => enumText(e))
  .join('\n\n')}

${[...structs.values()].map(structText).join('\n\n')}

/** The maps, with the sizes that the C says. \`flags\` are those of map creation. */
export const mapShapes = {
${mapsText(maps)}
} as const;

/** Read-only variables that are set before loading, and their types. */
export const configVariables = {
${sorted(configs)
  .map(([name, type]) => `  ${name}: ${type},`)
  .join('\n')}
} as const;

/** Programs: the global functions whose names start with tortie_. */
export const programNames = [${[...programs]
  .sort()
  .map((name) => `'${name}'`)
  .join(', ')}] as const;
${groups.map(groupText).join('')}`);
