"""Titles and authors of the papers that methods' files name by number, for bibliographies.

One line a paper: number | authors as BibTeX takes them | title. Of long lists of authors the first
is named. What is missing here is cited by its number alone.
"""

from __future__ import annotations

from collections.abc import Mapping

_LINES = r"""
arXiv:1211.5063 | Pascanu, Razvan and Mikolov, Tomas and Bengio, Yoshua | On the difficulty of training Recurrent Neural Networks
arXiv:1312.5402 | Howard, Andrew G. | Some Improvements on Deep Convolutional Neural Network Based Image Classification
arXiv:1406.1078 | Cho, Kyunghyun and others | Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation
arXiv:1412.6980 | Kingma, Diederik P. and Ba, Jimmy | Adam: A Method for Stochastic Optimization
arXiv:1502.03167 | Ioffe, Sergey and Szegedy, Christian | Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift
arXiv:1503.02531 | Hinton, Geoffrey and Vinyals, Oriol and Dean, Jeff | Distilling the Knowledge in a Neural Network
arXiv:1503.05671 | Martens, James and Grosse, Roger | Optimizing Neural Networks with Kronecker-factored Approximate Curvature
arXiv:1506.01186 | Smith, Leslie N. | Cyclical Learning Rates for Training Neural Networks
arXiv:1511.06807 | Neelakantan, Arvind and others | Adding Gradient Noise Improves Learning for Very Deep Networks
arXiv:1512.00567 | Szegedy, Christian and others | Rethinking the Inception Architecture for Computer Vision
arXiv:1512.03385 | He, Kaiming and Zhang, Xiangyu and Ren, Shaoqing and Sun, Jian | Deep Residual Learning for Image Recognition
arXiv:1602.01407 | Grosse, Roger and Martens, James | A Kronecker-factored approximate Fisher matrix for convolution layers
arXiv:1603.05027 | He, Kaiming and Zhang, Xiangyu and Ren, Shaoqing and Sun, Jian | Identity Mappings in Deep Residual Networks
arXiv:1603.09382 | Huang, Gao and others | Deep Networks with Stochastic Depth
arXiv:1606.00915 | Chen, Liang-Chieh and others | DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous Convolution, and Fully Connected CRFs
arXiv:1607.03474 | Zilly, Julian Georg and Srivastava, Rupesh Kumar and Koutn{\'i}k, Jan and Schmidhuber, J{\"u}rgen | Recurrent Highway Networks
arXiv:1608.03983 | Loshchilov, Ilya and Hutter, Frank | SGDR: Stochastic Gradient Descent with Warm Restarts
arXiv:1701.06548 | Pereyra, Gabriel and others | Regularizing Neural Networks by Penalizing Confident Output Distributions
arXiv:1703.02573 | Xie, Ziang and others | Data Noising as Smoothing in Neural Network Language Models
arXiv:1705.06693 | Loshchilov, Ilya and Glasmachers, Tobias and Beyer, Hans-Georg | Limited-Memory Matrix Adaptation for Large Scale Black-box Optimization
arXiv:1706.02677 | Goyal, Priya and others | Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour
arXiv:1706.03762 | Vaswani, Ashish and others | Attention Is All You Need
arXiv:1708.02002 | Lin, Tsung-Yi and Goyal, Priya and Girshick, Ross and He, Kaiming and Doll{\'a}r, Piotr | Focal Loss for Dense Object Detection
arXiv:1708.04552 | DeVries, Terrance and Taylor, Graham W. | Improved Regularization of Convolutional Neural Networks with Cutout
arXiv:1708.07120 | Smith, Leslie N. and Topin, Nicholay | Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates
arXiv:1710.09412 | Zhang, Hongyi and Cisse, Moustapha and Dauphin, Yann N. and Lopez-Paz, David | mixup: Beyond Empirical Risk Minimization
arXiv:1711.00489 | Smith, Samuel L. and Kindermans, Pieter-Jan and Ying, Chris and Le, Quoc V. | Don't Decay the Learning Rate, Increase the Batch Size
arXiv:1711.05101 | Loshchilov, Ilya and Hutter, Frank | Decoupled Weight Decay Regularization
arXiv:1802.09568 | Gupta, Vineet and Koren, Tomer and Singer, Yoram | Shampoo: Preconditioned Stochastic Tensor Optimization
arXiv:1803.00942 | Katharopoulos, Angelos and Fleuret, Fran{\c c}ois | Not All Samples Are Created Equal: Deep Learning with Importance Sampling
arXiv:1803.05407 | Izmailov, Pavel and others | Averaging Weights Leads to Wider Optima and Better Generalization
arXiv:1804.04235 | Shazeer, Noam and Stern, Mitchell | Adafactor: Adaptive Learning Rates with Sublinear Memory Cost
arXiv:1806.03884 | George, Thomas and others | Fast Approximate Natural Gradient Descent in a Kronecker-factored Eigenbasis
arXiv:1806.09055 | Liu, Hanxiao and Simonyan, Karen and Yang, Yiming | DARTS: Differentiable Architecture Search
arXiv:1902.09843 | Luo, Liangchen and Xiong, Yuanhao and Liu, Yan and Sun, Xu | Adaptive Gradient Methods with Dynamic Bound of Learning Rate
arXiv:1904.03626 | Hacohen, Guy and Weinshall, Daphna | On The Power of Curriculum Learning in Training Deep Networks
arXiv:1905.04899 | Yun, Sangdoo and others | CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features
arXiv:1907.08610 | Zhang, Michael R. and Lucas, James and Hinton, Geoffrey and Ba, Jimmy | Lookahead Optimizer: k steps forward, 1 step back
arXiv:1909.13719 | Cubuk, Ekin D. and Zoph, Barret and Shlens, Jonathon and Le, Quoc V. | RandAugment: Practical automated data augmentation with a reduced search space
arXiv:1910.07467 | Zhang, Biao and Sennrich, Rico | Root Mean Square Layer Normalization
arXiv:2002.04745 | Xiong, Ruibin and others | On Layer Normalization in the Transformer Architecture
arXiv:2004.01461 | Yong, Hongwei and Huang, Jianqiang and Hua, Xiansheng and Zhang, Lei | Gradient Centralization: A New Optimization Technique for Deep Neural Networks
arXiv:2010.01412 | Foret, Pierre and Kleiner, Ariel and Mobahi, Hossein and Neyshabur, Behnam | Sharpness-Aware Minimization for Efficiently Improving Generalization
arXiv:2012.03107 | Wu, Xiaoxia and Dyer, Ethan and Neyshabur, Behnam | When Do Curricula Work?
arXiv:2102.06171 | Brock, Andrew and De, Soham and Smith, Samuel L. and Simonyan, Karen | High-Performance Large-Scale Image Recognition Without Normalization
arXiv:2102.11600 | Kwon, Jungmin and Kim, Jeongseop and Park, Hyunseo and Choi, In Kwon | ASAM: Adaptive Sharpness-Aware Minimization for Scale-Invariant Learning of Deep Neural Networks
arXiv:2103.10158 | M{\"u}ller, Samuel G. and Hutter, Frank | TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation
arXiv:2106.11959 | Gorishniy, Yury and Rubachev, Ivan and Khrulkov, Valentin and Babenko, Artem | Revisiting Deep Learning Models for Tabular Data
arXiv:2106.15147 | Bahri, Dara and Jiang, Heinrich and Tay, Yi and Metzler, Donald | SCARF: Self-Supervised Contrastive Learning using Random Feature Corruption
arXiv:2109.05687 | Xu, Runxin and others | Raise a Child in Large Language Model: Towards Effective and Generalizable Fine-tuning
arXiv:2202.03599 | Zhao, Yang and Zhang, Hao and Hu, Xiuyuan | Penalizing Gradient Norm for Efficiently Improving Generalization in Deep Learning
arXiv:2203.02714 | Liu, Yong and others | Towards Efficient and Scalable Sharpness-Aware Minimization
arXiv:2203.03466 | Yang, Greg and others | Tensor Programs V: Tuning Large Neural Networks via Zero-Shot Hyperparameter Transfer
arXiv:2203.08065 | Zhuang, Juntang and others | Surrogate Gap Minimization Improves Sharpness-Aware Training
arXiv:2204.02311 | Chowdhery, Aakanksha and others | PaLM: Scaling Language Modeling with Pathways
arXiv:2208.06677 | Xie, Xingyu and Zhou, Pan and Li, Huan and Lin, Zhouchen and Yan, Shuicheng | Adan: Adaptive Nesterov Momentum Algorithm for Faster Optimizing Deep Models
arXiv:2209.14981 | Kaddour, Jean | Stop Wasting My Time! Saving Days of ImageNet and BERT Training with Latest Weight Averaging
arXiv:2210.06364 | Dubey, Shiv Ram and Singh, Satish Kumar and Chaudhuri, Bidyut Baran | AdaNorm: Adaptive Gradient Norm Correction based Optimizer for CNNs
arXiv:2302.06675 | Chen, Xiangning and others | Symbolic Discovery of Optimization Algorithms
arXiv:2303.03108 | Zhang, Xingxuan and others | Gradient Norm Aware Minimization Seeks First-Order Flatness and Improves Generalization
arXiv:2305.14342 | Liu, Hong and Li, Zhiyuan and Hall, David and Liang, Percy and Ma, Tengyu | Sophia: A Scalable Stochastic Second-order Optimizer for Language Model Pre-training
arXiv:2306.03241 | Sanyal, Sunny and others | Early Weight Averaging meets High Learning Rates for LLM Pre-training
arXiv:2306.06101 | Mishchenko, Konstantin and Defazio, Aaron | Prodigy: An Expeditiously Adaptive Parameter-Free Learner
arXiv:2309.06497 | Shi, Hao-Jun Michael and others | A Distributed Data-Parallel PyTorch Implementation of the Distributed Shampoo Optimizer for Training Neural Networks At-Scale
arXiv:2309.14322 | Wortsman, Mitchell and others | Small-scale proxies for large-scale Transformer training instabilities
arXiv:2310.07831 | Defazio, Aaron and Cutkosky, Ashok and Mehta, Harsh and Mishchenko, Konstantin | Optimal Linear Decay Learning Rate Schedules and Further Refinements
arXiv:2405.15682 | Defazio, Aaron and others | The Road Less Scheduled
arXiv:2405.18392 | H{\"a}gele, Alexander and others | Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations
arXiv:2409.03137 | Pagliardini, Matteo and Ablin, Pierre and Grangier, David | The AdEMAMix Optimizer: Better, Faster, Older
arXiv:2409.11321 | Vyas, Nikhil and others | SOAP: Improving and Stabilizing Shampoo using Adam
arXiv:2410.01201 | Feng, Leo and others | Were RNNs All We Needed?
arXiv:2410.19912 | Babayan, Irina and Aliahmadi, Hazhir and van Anders, Greg | Simmering: Sufficient is better than optimal for training neural networks
arXiv:2411.10438 | Yuan, Huizhuo and others | MARS: Unleashing the Power of Variance Reduction for Training Large Models
arXiv:2411.16085 | Liang, Kaizhao and Chen, Lizhang and Liu, Bo and Liu, Qiang | Cautious Optimizers: Improving Training with One Line of Code
arXiv:2502.10784 | Zhou, Shenglong and Wang, Ouya and Luo, Ziyan and Zhu, Yongxu and Li, Geoffrey Ye | Preconditioned Inexact Stochastic ADMM for Deep Model
arXiv:2502.11034 | Wang, Guoxia and others | AdaGC: Enhancing LLM Pretraining Stability via Adaptive Gradient Clipping
arXiv:2502.16982 | Liu, Jingyuan and others | Muon is Scalable for LLM Training
arXiv:2502.17055 | Huang, Tianjin and others | Stable-SPAM: How to Train in 4-Bit More Stably than 16-Bit Adam
arXiv:2506.23800 | Qi, Chang and Forasassi, Matteo and Lukasiewicz, Thomas and Salvatori, Tommaso | Towards the Training of Deeper Predictive Coding Neural Networks
arXiv:2510.12402 | Chen, Lizhang and others | Cautious Weight Decay
arXiv:2512.24695 | Behrouz, Ali and others | Nested Learning: The Illusion of Deep Learning Architectures
arXiv:2602.15322 | Joo, Taejong and Xia, Wenhan and Kim, Cheolmin and Zhang, Ming and Ie, Eugene | On Surprising Effectiveness of Masking Updates in Adaptive Optimizers
arXiv:2602.17080 | Zhang, Minxin and Liu, Yuxuan and Schaeffer, Hayden | Adam Improves Muon: Adaptive Moment Estimation with Orthogonalized Momentum
arXiv:2602.21276 | Yu, Jianneng and Morozov, Alexandre V. | Neural network optimization strategies and the topography of the loss landscape
doi:10.1007/3-540-49430-8_2 | LeCun, Yann and Bottou, L{\'e}on and Orr, Genevieve B. and M{\"u}ller, Klaus-Robert | Efficient BackProp
doi:10.1038/323533a0 | Rumelhart, David E. and Hinton, Geoffrey E. and Williams, Ronald J. | Learning representations by back-propagating errors
doi:10.1038/4580 | Rao, Rajesh P. N. and Ballard, Dana H. | Predictive coding in the visual cortex: a functional interpretation of some extra-classical receptive-field effects
doi:10.1090/S0025-5718-1980-0572855-7 | Nocedal, Jorge | Updating quasi-Newton matrices with limited storage
doi:10.1093/oxfordjournals.pan.a004868 | King, Gary and Zeng, Langche | Logistic Regression in Rare Events Data
doi:10.1109/5.726791 | LeCun, Yann and Bottou, L{\'e}on and Bengio, Yoshua and Haffner, Patrick | Gradient-based learning applied to document recognition
doi:10.1137/0330046 | Polyak, Boris T. and Juditsky, Anatoli B. | Acceleration of Stochastic Approximation by Averaging
doi:10.1145/1553374.1553380 | Bengio, Yoshua and Louradour, J{\'e}r{\^o}me and Collobert, Ronan and Weston, Jason | Curriculum learning
doi:10.1145/3065386 | Krizhevsky, Alex and Sutskever, Ilya and Hinton, Geoffrey E. | ImageNet classification with deep convolutional neural networks
doi:10.1162/NECO_a_00949 | Whittington, James C. R. and Bogacz, Rafal | An Approximation of the Error Backpropagation Algorithm in a Predictive Coding Network with Local Hebbian Synaptic Plasticity
doi:10.1162/neco.1995.7.1.108 | Bishop, Chris M. | Training with Noise is Equivalent to Tikhonov Regularization
doi:10.1214/aoms/1177703732 | Huber, Peter J. | Robust Estimation of a Location Parameter
jmlr.org/papers/v12/duchi11a | Duchi, John and Hazan, Elad and Singer, Yoram | Adaptive Subgradient Methods for Online Learning and Stochastic Optimization
kellerjordan.github.io/posts/muon | Jordan, Keller and others | Muon: An optimizer for hidden layers in neural networks
openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ | Dozat, Timothy | Incorporating Nesterov Momentum into Adam
proceedings.mlr.press/v28/sutskever13 | Sutskever, Ilya and Martens, James and Dahl, George and Hinton, Geoffrey | On the importance of initialization and momentum in deep learning
"""  # noqa: E501

PAPERS: Mapping[str, tuple[str, str]] = {
    number: (authors, title)
    for number, authors, title in (line.split(" | ") for line in _LINES.strip().splitlines())
}
"""(authors, title) by number: "arXiv:1412.6980", "doi:10.1038/323533a0", or an address."""
