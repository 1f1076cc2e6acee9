// The whole library, bottom to top: each room includes only the rooms above it in this list.
#pragma once

// clang-format off: the order is the point.
#include "ersd/token.h"                     // a token id
#include "ersd/stats.h"                     // what a generation counts and times
#include "ersd/stopwatch.h"                 // the time of a scope
#include "ersd/check.h"                     // range checks: who, what was expected, what came

#include "ersd/race/logarithm.h"            // a logarithm with the same bits on every machine
#include "ersd/race/noise.h"                // clocks: one Exp(1) variate for each seed, position and token
#include "ersd/race/threshold.h"            // the indices of values that reach a threshold
#include "ersd/race/sampling.h"             // temperature, top-k, top-p and min-p
#include "ersd/race/selection.h"            // typical-p and XTC
#include "ersd/race/race.h"                 // the race's winner and first arrivals
#include "ersd/race/logprobs.h"             // log-probabilities of emitted tokens

#include "ersd/tree/draft_tree.h"           // a tree of drafted tokens
#include "ersd/tree/tree_shape.h"           // the shapes that strategies give to trees
#include "ersd/tree/batch.h"                // trees as batches of sequences

#include "ersd/model/language_model.h"      // what a model must do
#include "ersd/model/table_model.h"         // a model whose logits are a table

#include "ersd/verify/logits_processor.h"   // what changes logits before their race
#include "ersd/verify/filtered_race.h"      // races among the tokens that a grammar allows
#include "ersd/verify/rejection.h"          // greedy rejection sampling
#include "ersd/verify/coupling.h"           // methods: the draft's order and the target's token
#include "ersd/verify/verify.h"             // target logits to accepted path

#include "ersd/learning/histogram.h"        // ranks of winners in the draft's order
#include "ersd/learning/margins.h"          // how likely each of the draft's first arrivals is to win
#include "ersd/learning/correction.h"       // a draft that corrects itself
#include "ersd/learning/cost.h"             // what calls cost by their width
#include "ersd/learning/controller.h"       // how many tokens to draft
#include "ersd/learning/path_threshold.h"   // how probable paths of grown trees must be
#include "ersd/learning/profile.h"          // what is kept of a pair of models

#include "ersd/draft/draft_rows.h"          // the draft's logits at the nodes of a tree
#include "ersd/draft/drafter.h"             // draft model to tree

#include "ersd/decode/options.h"            // what a caller can ask of a generation
#include "ersd/decode/decoder.h"            // the decoding step

#include "ersd/llama/backend.h"             // llama.cpp: devices and log
#include "ersd/llama/model.h"               // weights and vocabulary
#include "ersd/llama/context.h"             // calls and cache
#include "ersd/llama/grammar.h"             // GBNF: which tokens may come
#include "ersd/llama/samplers.h"            // penalties, DRY and bias
#include "ersd/llama/teacher.h"             // many texts at once

#include "ersd/text.h"                      // UTF-8 and stop strings
#include "ersd/generator.h"                 // text from prompts
// clang-format on
