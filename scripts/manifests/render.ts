import { isScalar, parseDocument, stringify, visit, YAMLMap, YAMLSeq, type Document, type Node } from 'yaml';

/** Where a field is: the keys and indexes down to it. */
export type Path = readonly (string | number)[];

/** An object for a manifest, with comments for the people who read it. */
export interface Documented {
  readonly object: object;
  /** Above the whole object. */
  readonly head?: string;
  /** Path of a field, or of an element of a list, to what is said above it. */
  readonly comments?: ReadonlyMap<Path, string>;
}

const width = 140;

/** The YAML text of one object. Throws for a comment whose field isn't there: it would be lost without a word. */
export function render({ object, head, comments = new Map() }: Documented): string {
  const document = parseDocument(stringify(object, { aliasDuplicateObjects: false }));
  for (const [path, text] of comments) comment(document, path, text);
  visit(document, {
    Seq(_key, list) {
      list.flow = list.items.every(isScalar) && list.items.join(', ').length < 100;
    },
  });
  const body = document.toString({ lineWidth: width, flowCollectionPadding: false });
  return head === undefined ? body : `${wrap(head, width - 2, '# ')}\n${body}`;
}

/** In a map a comment stands above the key, in a list above the element. */
function comment(document: Document, path: Path, text: string): void {
  const last = path.at(-1);
  const parent = path.length > 1 ? document.getIn(path.slice(0, -1), true) : document.contents;
  let target: Node | undefined;
  if (parent instanceof YAMLSeq) target = parent.items[Number(last)] as Node | undefined;
  if (parent instanceof YAMLMap) target = parent.items.find(({ key }) => String(key) === String(last))?.key as Node;
  if (target === undefined) throw new Error(`no field ${path.join('.')} to comment on`);
  target.commentBefore = wrap(text, width - 2 * path.length, ' ');
}

function wrap(text: string, columns: number, prefix: string): string {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const line = lines.at(-1);
    if (line === undefined || line.length + word.length + 1 > columns) lines.push(prefix + word);
    else lines[lines.length - 1] = `${line} ${word}`;
  }
  return lines.join('\n');
}
