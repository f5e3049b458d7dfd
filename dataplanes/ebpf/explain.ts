import { join } from 'node:path';
import ipaddr from 'ipaddr.js';
import { type Family, familyOf } from '#api/cidr.ts';
import { type BpfMap, type BpfProgram, loadObject } from '#native/bpf.ts';
import type { AddressView, LegView, PacketQuestion, PacketView } from '../observe.ts';
import {
  type AddressInfo,
  Ask4,
  Ask6,
  classifierConstants,
  decisionReasonTexts,
  flowConstants,
  type Hop,
  HopKind,
  RuleAction,
} from './bpf-types.gen.ts';
import type { RuleAt } from './classifier/compiled-units.ts';
import { u32Key } from './keys.ts';
import { type EndpointPrograms, objectFiles } from './programs.ts';

const shapes = { 4: Ask4, 6: Ask6 } as const;
/** The maps of ask.bpf.c. */
const askMaps: readonly string[] = [
  ...['addr', 'net', 'named'].flatMap((name) => [`tortie_${name}4`, `tortie_${name}6`]),
  ...['ports', 'units', 'records', 'rows', 'rowtab', 'chunks', 'rules', 'hits'].map((name) => `tortie_${name}`),
  ...['slots', 'pods', 'hops', 'run', 'events'].map((name) => `tortie_${name}`),
];
/** A test run wants a frame, and nobody looks at it. */
const frame = new Uint8Array(64);
const first = u32Key(0);
const kinds = { egress: flowConstants.unitEgress, ingress: flowConstants.unitIngress } as const;

/** Names for numbers. */
export interface ExplainNames {
  readonly ruleOf: (word: number) => RuleAt | undefined;
  readonly nameOf: (ifindex: number) => string | undefined;
  readonly ifindexOf: (name: string) => number | undefined;
}

/** Asks the lookup that packets meet, in the maps that they meet, what would become of one. */
export class AskProgram implements Disposable {
  readonly #programs: Readonly<Record<Family, BpfProgram>>;
  readonly #questions: Readonly<Record<Family, BpfMap>>;
  readonly #handles: DisposableStack;

  private constructor(
    programs: Record<Family, BpfProgram>,
    questions: Record<Family, BpfMap>,
    handles: DisposableStack,
  ) {
    this.#programs = programs;
    this.#questions = questions;
    this.#handles = handles;
  }

  /** Loads it onto the maps of the programs in force. Throws as `loadObject` does. */
  static async load(objects: string, programs: EndpointPrograms): Promise<AskProgram> {
    using handles = new DisposableStack();
    const object = handles.use(
      await loadObject({
        name: 'tortie_ask',
        elf: join(objects, objectFiles.ask),
        maps: Object.fromEntries(askMaps.map((name) => [name, { use: programs.map(name) }])),
      }),
    );
    return new AskProgram(
      { 4: object.program('tortie_ask4'), 6: object.program('tortie_ask6') },
      { 4: object.map('question4'), 6: object.map('question6') },
      handles.move(),
    );
  }

  /** What the maps say now. */
  look(question: PacketQuestion, names: ExplainNames): PacketView {
    const { sourceDevice, destinationDevice } = question;
    const ends = [
      ...(sourceDevice === undefined ? [] : [['egress', sourceDevice] as const]),
      ...(destinationDevice === undefined ? [] : [['ingress', destinationDevice] as const]),
    ];
    const legs = ends.map(([direction, device]) => {
      const answer = this.#ask(question, kinds[direction], names.ifindexOf(device) ?? 0);
      return legOf(direction, device, answer, names);
    });
    const { source, destination, sourceHop, destinationHop } = this.#ask(question, kinds.egress, 0);
    return {
      source: viewOf(question.source, source, sourceHop, names),
      destination: viewOf(question.destination, destination, destinationHop, names),
      legs,
    };
  }

  [Symbol.dispose](): void {
    this.#handles.dispose();
  }

  #ask(question: PacketQuestion, kind: number, ifindex: number): Ask4 | Ask6 {
    const family = familyOf(question.source);
    const { protocol, sourcePort = 0, destinationPort = 0, icmpType, icmpCode = 0 } = question;
    const shape = shapes[family];
    const bytes = new Uint8Array(shape.size);
    const view = new DataView(bytes.buffer);
    shape.write(
      {
        ...shape.read(view),
        ifindex,
        kind,
        tuple: {
          source: bytesOf(question.source),
          destination: bytesOf(question.destination),
          sourcePort,
          destinationPort: icmpType === undefined ? destinationPort : (icmpType << 8) | icmpCode,
          protocol,
        },
      },
      view,
    );
    this.#questions[family].set(first, bytes);
    this.#programs[family].testRun({ data: frame });
    const answer = this.#questions[family].get(first) ?? bytes;
    return shape.read(new DataView(answer.buffer, answer.byteOffset, answer.byteLength));
  }
}

function legOf(direction: LegView['direction'], device: string, answer: Ask4 | Ask6, names: ExplainNames): LegView {
  const { unit, decision } = answer;
  const verdict = unit !== 0 && decision.action === RuleAction.allow ? 'allow' : 'deny';
  if (unit === 0) return { direction, device, unit, verdict, decidedBy: 'the device has no rules: it is closed' };
  const rule = decision.rule === classifierConstants.ruleIndexNone ? undefined : names.ruleOf(decision.rule);
  if (rule === undefined)
    return { direction, device, unit, verdict, decidedBy: `no rule (${decisionReasonTexts[decision.reason]})` };
  const word = decision.rule;
  return {
    direction,
    device,
    unit,
    verdict,
    word,
    ...(rule.rule === undefined ? {} : { rule: rule.rule }),
    decidedBy: rule.text,
  };
}

function viewOf(address: string, info: AddressInfo, hop: Hop, names: ExplainNames): AddressView {
  return { address, class: info.class, hop: info.hop, nextHop: hopText(hop, names) };
}

function hopText({ kind, ifindex, flags }: Hop, { nameOf }: ExplainNames): string {
  switch (kind) {
    case HopKind.pod:
      return `pod device ${nameOf(ifindex) ?? `#${ifindex}`}`;
    case HopKind.host:
      return 'this node';
    case HopKind.stack:
      return (flags & flowConstants.hopInPool) === 0 ? "the node's stack" : "the node's stack (address of a pool)";
    default:
      return "the node's stack (nothing is known of it)";
  }
}

function bytesOf(address: string): Uint8Array {
  return Uint8Array.from(ipaddr.parse(address).toByteArray());
}
