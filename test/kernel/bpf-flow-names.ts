/** Who is who in tests of flows. */
import type { Names } from './bpf-flow-words.ts';
import type { Version } from './classifier-bed.ts';

/** `front` is a Service's address; `away` is beyond the node, `node` the node itself. */
export const namesOf: Readonly<Record<Version, Names>> = {
  4: {
    one: '10.65.0.3',
    two: '10.65.0.4',
    away: '192.0.2.77',
    node: '10.1.0.1',
    front: '10.96.0.10',
    router: '192.0.2.1',
    all: '224.0.0.251',
    nobody: '0.0.0.0',
    self: '127.0.0.1',
  },
  6: {
    one: 'fd65::3',
    two: 'fd65::4',
    away: '2001:db8::77',
    node: 'fd01::1',
    front: 'fd96::10',
    router: '2001:db8::1',
    all: 'ff02::fb',
    nobody: '::',
    self: '::1',
  },
};

export const pods = ['one', 'two'] as const;
export type Pod = (typeof pods)[number];
/** What a pod's leg says: everything, nothing, only TCP and UDP to port 80 of `two`. */
export type Rule = 'allow' | 'deny' | 'two:80';
/** A pod's leg of a flow. */
export type Leg = `${Pod} ${'egress' | 'ingress'}`;
/** The bits of marks. */
export const marks = { seen: 0x10, host: 0x20, notLocal: 0x40, untracked: 0x80, preAccepted: 0x100 } as const;
/** The MAC of a pod's own end. */
export const podMacOf = (pod: Pod): string => `0a:58:0a:41:00:0${pods.indexOf(pod) + 3}`;
