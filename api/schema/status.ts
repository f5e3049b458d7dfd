import * as z from 'zod/mini';

/** `status` of objects that a controller says something about; we keep it and don't act on it. */
export const conditionsStatus = z.object({
  conditions: z.optional(
    z.array(
      z.object({
        type: z.string(),
        status: z.string(),
        reason: z.optional(z.string()),
        message: z.optional(z.string()),
        lastTransitionTime: z.optional(z.string()),
        observedGeneration: z.optional(z.int()),
      }),
    ),
  ),
});
