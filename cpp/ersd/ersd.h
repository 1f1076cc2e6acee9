// The whole library, in the order of its layers: each header includes only those above it.
#pragma once

#include "ersd/batch.h"           // trees as batches with sequences
#include "ersd/controller.h"      // how many tokens to draft
#include "ersd/correction.h"      // a draft that corrects itself
#include "ersd/cost.h"            // what calls cost by width
#include "ersd/coupling.h"        // methods: the draft's order, the target's token
#include "ersd/decoder.h"         // the step
#include "ersd/drafter.h"         // draft model: tree
#include "ersd/filtered_race.h"   // races among tokens that a grammar allows
#include "ersd/generator.h"       // text from prompts
#include "ersd/histogram.h"       // ranks of winners in the draft's order
#include "ersd/language_model.h"  // what a model must do
#include "ersd/llama/backend.h"   // llama.cpp: devices, log
#include "ersd/llama/context.h"   // decoding and the cache
#include "ersd/llama/grammar.h"   // GBNF: which tokens may come
#include "ersd/llama/model.h"     // weights and vocabulary
#include "ersd/llama/samplers.h"  // penalties, DRY, bias
#include "ersd/llama/teacher.h"   // many texts at once
#include "ersd/logprobs.h"        // log-probabilities of emitted tokens
#include "ersd/margins.h"         // how safe the places of a race are
#include "ersd/noise.h"           // clocks: one Exp(1) variate per (seed, position, token)
#include "ersd/options.h"         // options and stats of a generation
#include "ersd/race.h"            // winner and first arrivals
#include "ersd/rejection.h"       // greedy rejection sampling
#include "ersd/sampling.h"        // temperature, top-k, top-p, min-p
#include "ersd/selection.h"       // typical-p, XTC
#include "ersd/shaping.h"         // logits shaped by the tokens before them
#include "ersd/table_model.h"     // one whose logits are a table
#include "ersd/text.h"            // UTF-8 and stop strings
#include "ersd/tree.h"            // draft trees and their shapes
#include "ersd/verify.h"          // target logits: accepted path
