/**
 * What our validator refuses and a definition can't: the API server takes such an object, and the agent then treats it as invalid (a policy
 * fails closed) and says so in `tortie status`. Tests hold that every row is needed and that there is nothing else.
 */
export interface Unsaid {
  /** What our validator says. */
  readonly message: RegExp;
  readonly reason: string;
}

const grammar = 'selectors nest: no pattern can say their grammar, and CEL has no recursion';
const labels = 'Kubernetes label selectors have no limits on their lists, so that the API server would not accept the cost of a rule';
const lists = "the cost of a rule for each of a rule's networks is more than the API server accepts";
const machine = 'only programs write it, at each address given: the rule would cost the API server at every write';

export const unsaid: readonly Unsaid[] = [
  { message: /^selector: |^must not use global\(\)|^must have global\(\) alone/, reason: grammar },
  { message: /^must be a network address/, reason: lists },
  { message: /^must be IPv[46], as/, reason: lists },
  { message: /^must be a port from 1 to 65535, a range/, reason: 'a range whose end is before its start: a pattern compares no numbers' },
  { message: /^must be the key of a label|^must be a label's value|^must (not )?be empty with/, reason: labels },
  { message: /^must be a smaller network inside of|^must have podSelector, |^must stand alone|^must not be (given unless port|less than port)/, reason: labels },
  { message: /^must be a network with its prefix length/, reason: labels },
  { message: /^must be one address, with \/32/, reason: machine },
  { message: /^must have \d+ entries, one for each|^must be less than|^must not be an ordinal|^must not be twice|^must be an index/, reason: machine },
  { message: /^must have a prefix length from/, reason: machine },
  { message: /^the key must be a network address/, reason: machine },
  { message: /^must be host:<node>/, reason: machine },
  { message: /^must be an? IP(v[46])? address$/, reason: machine },
  { message: /^must not have a method twice/, reason: 'nothing acts on http' },
  { message: /^must not have projectcalico.org\/namespace/, reason: 'CEL sees no labels of an object' },
  { message: /regular expression/, reason: "JavaScript's regular expressions are not RE2's" },
  { message: /^must be interface names|^must be key=value|^must be durations|^must be a list of names with|^must be an object of texts/, reason: 'a list in a text' },
  { message: /^must be a list of|^must be a range of|^must be a port or a range/, reason: 'a pattern compares no numbers' },
  { message: /^must be a DSCP value|^must be a 32-bit mask/, reason: 'a number in a text' },
  { message: /, or none$|^must be (a host name|an interface name|text on one line|a path|letters, digits)/, reason: 'a pattern with "but not none"' },
  { message: /^must be interface name prefixes/, reason: 'a list in a text' },
];
