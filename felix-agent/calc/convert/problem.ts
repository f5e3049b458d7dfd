/** Why a part of a policy can't be converted; caught within the conversion, which says it in the policy's `problems`. */
export class ConversionError extends Error {
  override readonly name = 'ConversionError';
  readonly code = 'bad-rule';
}
