/**
 * A question to a node's agent, asked where the agent looks anyway: in the blocks that hold the node's addresses. Who is about to free what
 * a deleted node had writes the node's name there; an agent of that node that is alive after all sees it by its watch and strikes it out,
 * and whatever else it writes to the block strikes it out too. Who asked frees nothing unless the name still stands there.
 */
import type { IPAMBlock } from './block-store.ts';

/** Blocks' annotation: `<node>=<nonce>` for each node that is asked, separated by spaces. */
export const challengeAnnotation = 'tortie/departed-nodes';

/** What the node is asked by in this block; undefined if it isn't. */
export function challengeTo({ metadata }: IPAMBlock, nodeName: string): string | undefined {
  return parse(metadata.annotations?.[challengeAnnotation]).get(nodeName);
}

/** The block with the question to that node. It replaces one that stands there already: whoever asked that must not act any more. */
export function withChallenge(block: IPAMBlock, nodeName: string, nonce: string): IPAMBlock {
  return annotated(block, new Map([...parse(block.metadata.annotations?.[challengeAnnotation]), [nodeName, nonce]]));
}

/** The block without a question to that node; the same object if there is none. */
export function withoutChallenge(block: IPAMBlock, nodeName: string): IPAMBlock {
  const challenges = parse(block.metadata.annotations?.[challengeAnnotation]);
  return challenges.delete(nodeName) ? annotated(block, challenges) : block;
}

function parse(text = ''): Map<string, string> {
  const pairs = text.split(' ').map((pair) => pair.split('='));
  return new Map(
    pairs.flatMap(([node, nonce]) => (node === undefined || nonce === undefined ? [] : [[node, nonce] as const])),
  );
}

function annotated(block: IPAMBlock, challenges: ReadonlyMap<string, string>): IPAMBlock {
  const { [challengeAnnotation]: _, ...others } = block.metadata.annotations ?? {};
  const text = [...challenges].map(([node, nonce]) => `${node}=${nonce}`).join(' ');
  const annotations = text === '' ? others : { ...others, [challengeAnnotation]: text };
  const { annotations: __, ...metadata } = block.metadata;
  return {
    ...block,
    metadata: Object.keys(annotations).length === 0 ? metadata : { ...metadata, annotations },
  };
}
